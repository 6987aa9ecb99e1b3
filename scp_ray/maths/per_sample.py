"""Squared weight gradients of single samples, without a copy of the weights for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCK = 2**22  # floats of unfolded input and per-sample gradient at once


def add_squares_(total: Tensor, part: nn.Module, uses: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Add the squares of a batch's per-sample weight gradients: summed over positions and uses, squared, summed.

    A few samples at a time, so that no more than about ``BLOCK`` floats are made beside ``total``.

    Args:
        total: in the weight's shape.
        part: an nn.Conv2d or nn.Linear.
        uses: its input and the gradient of its output, (n, ...) each, for each time that it was run.
    """
    uses = [(given.to(total.dtype), gradient.to(total.dtype)) for given, gradient in uses]
    if isinstance(part, nn.Linear) and len(uses) == 1 and uses[0][0].ndim == 2:
        given, gradient = uses[0]
        total.addmm_(gradient.square().T, given.square())  # the square of an outer product is that of the squares
        return
    samples = len(uses[0][0])
    positions = sum(gradient.numel() // (samples * total.shape[0]) for _, gradient in uses)
    groups = part.groups if isinstance(part, nn.Conv2d) else 1
    unfolded = groups * total[0].numel() * positions
    step = max(1, BLOCK // (total.numel() + unfolded))
    for start in range(0, samples, step):
        rows = [(given[start : start + step], gradient[start : start + step]) for given, gradient in uses]
        inputs = _joined([_patches(part, given) for given, _ in rows])
        outputs = _joined([_by_position(part, gradient) for _, gradient in rows])
        count, inside = len(inputs), inputs.shape[2]
        gradients = torch.bmm(
            outputs.reshape(count * groups, -1, inside), inputs.reshape(count * groups, -1, inside).transpose(1, 2)
        )
        for gradient in gradients.view(count, *total.shape):
            total.addcmul_(gradient, gradient)


def _joined(uses: Sequence[Tensor]) -> Tensor:
    """Positions of all uses side by side; that of a single one is not copied."""
    return uses[0] if len(uses) == 1 else torch.cat(list(uses), 2)


def _by_position(part: nn.Module, gradient: Tensor) -> Tensor:
    """(n, O, positions)."""
    return gradient.flatten(2) if isinstance(part, nn.Conv2d) else gradient.flatten(1, -2).transpose(1, 2)


def _patches(part: nn.Module, given: Tensor) -> Tensor:
    """(n, inputs of one output, positions); of all groups of a convolution in order."""
    if not isinstance(part, nn.Conv2d):
        return given.flatten(1, -2).transpose(1, 2)
    size, dilation, stride = part.kernel_size, part.dilation, part.stride
    if part.padding == "same":  # as torch does it: the odd one goes to the right and to the bottom
        spread = [step * (side - 1) for step, side in zip(dilation, size, strict=True)]
        top, left = (total // 2 for total in spread)
        edges = [left, spread[1] - left, top, spread[0] - top]
    else:
        rows, columns = (0, 0) if isinstance(part.padding, str) else part.padding
        edges = [columns, columns, rows, rows]
    mode = "constant" if part.padding_mode == "zeros" else part.padding_mode
    return functional.unfold(functional.pad(given, edges, mode=mode), size, dilation, 0, stride)
