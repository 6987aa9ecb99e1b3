"""Which single weights are pruned, and which samples they are judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from scp_ray.errors import ScoreError
from scp_ray.maths.masks import mask_parameter_, parameter_mask


def saliency(weight: Tensor, curvature: Tensor) -> Tensor:
    """s = h theta^2 / 2: what the quadratic model expects of the loss when a weight is set to 0."""
    return weight.square() * curvature / 2


def prune_smallest_(module: nn.Module, saliencies: Mapping[str, Tensor], fraction: float) -> None:
    """Mask the weights of smallest saliency, ranked over all layers together, until round(fraction * P) are masked.

    P counts all weights of the layers named; those already masked come first. Ties: the lower flat index, layers in
    the order of ``saliencies``.

    Args:
        module: holds the layers.
        saliencies: (the weight's shape) by name of the layer.
        fraction: in [0, 1).

    Raises ScoreError where a saliency is NaN or infinite.
    """
    ranked = []
    for name, values in saliencies.items():
        if not bool(values.isfinite().all()):
            raise ScoreError(
                f"saliencies of {name} are NaN or infinite, so its weights cannot be ranked; train it anew."
            )
        mask = parameter_mask(module.get_submodule(name), "weight")
        ranked.append(values if mask is None else values.masked_fill(~mask, -torch.inf))
    count = round(fraction * sum(values.numel() for values in ranked))
    for name, chosen in zip(saliencies, smallest(ranked, count), strict=True):
        if chosen.any():
            mask_parameter_(module.get_submodule(name), "weight", ~chosen)


def smallest(parts: Sequence[Tensor], count: int) -> list[Tensor]:
    """Bool, in the parts' shapes: true at exactly the ``count`` smallest values of all; ties: lower flat index."""
    flat = torch.cat([part.flatten() for part in parts])
    if count == 0:
        chosen = torch.zeros_like(flat, dtype=torch.bool)
    else:
        threshold = flat.kthvalue(count).values
        chosen = flat < threshold
        chosen[(flat == threshold).nonzero()[: count - int(chosen.sum()), 0]] = True
    sizes = [part.numel() for part in parts]
    return [mask.view_as(part) for mask, part in zip(torch.split(chosen, sizes), parts, strict=True)]


def layer_sparsity(module: nn.Module) -> dict[str, float]:
    """The share of masked weights of every convolution and linear layer, by name."""
    shares = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            mask = parameter_mask(part, "weight")
            shares[name] = 0.0 if mask is None else int((~mask).sum()) / mask.numel()
    return shares


def balanced_rows(label: Tensor, group: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(N,) of the group each row was chosen for, -1 where it was not: up to ``count`` of each group, classes in turn.

    Classes are gone round again and again in an order drawn once, each giving its next row; one that has no more is
    passed over. Rows of a negative group belong to none.

    Args:
        label: (N,) classes, on the CPU.
        group: (N,) codes, on the CPU.
        count: of each group.
        generator: of the orders of classes and of rows.
    """
    turn = torch.randperm(int(label.max()) + 1, generator=generator)
    order = torch.randperm(len(label), generator=generator)
    chosen = torch.full_like(group, -1)
    for code in torch.unique(group[group >= 0]).tolist():
        rows = order[group[order] == code]
        rows = rows[label[rows].argsort(stable=True)]
        sizes = label[rows].bincount()
        number = torch.arange(len(rows)) - (sizes.cumsum(0) - sizes)[label[rows]]  # 0, 1, ... within its class
        chosen[rows[(number * len(turn) + turn[label[rows]]).argsort()[:count]]] = code
    return chosen
