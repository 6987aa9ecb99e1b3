"""What the loss, or the groups' gap in it, would do without a channel: to first order, by one backward pass.

With z a channel's map at the convolution's output for sample i and g the gradient of that sample's cross-entropy
there, setting the map to zero changes the sample's loss by -A_ik, where A_ik = sum over positions of z * g. Summed
over samples this is the sum over the channel's weights and bias of weight times gradient.

Source of the first-order criterion: Molchanov et al. 2017 (maps) and 2019 (weights). They take the absolute value
(2017) or the square (2019) per sample or mini-batch, before averaging; here the average comes first, so that the score
is the change of the scoring set's loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from scp_ray.criteria.base import BatchwiseCriterion, register
from scp_ray.errors import ScoreError
from scp_ray.parts import Batch, Learner, PrunableLayer

_ROWS = 64  # labellings that are turned into (rows, N) doubles at a time


class _Passed(NamedTuple):
    """What one forward and backward pass over a batch says, on the CPU."""

    loss: Tensor  # (n,) float64 cross-entropies
    part: Tensor  # (n, C) float64, A: removing the channel changes the loss by about -A


class _OnePass(BatchwiseCriterion):
    """Both criteria look at the same pass.

    The cross-entropy is that of ``learner(image, group)`` in eval mode, whatever the learner's own loss is; a learner
    that needs a group to answer is given the batch's own.
    """

    differentiates = True

    def part(self, learner: Learner, layer: PrunableLayer, batch: Batch, group: Tensor) -> _Passed:
        """One forward and backward pass."""
        return _pass(learner, layer, batch)


@register("taylor")
@dataclass(frozen=True)
class Taylor(_OnePass):
    """|mean_i A_ik|: how much the mean cross-entropy changes without the channel; low = hardly."""

    uses_groups = False

    batch_size: Annotated[int, Ge(1)] = 128

    def combined(self, parts: Sequence[_Passed], group: Tensor) -> Tensor:
        """(R, C) of equal rows: labellings do not matter."""
        total, samples = parts[0].part.sum(0), len(parts[0].part)
        for passed in parts[1:]:
            total, samples = total + passed.part.sum(0), samples + len(passed.part)
        return (total / samples).abs().float().expand(len(group), -1)


@register("gap-taylor")
@dataclass(frozen=True)
class GapTaylor(_OnePass):
    """Change of the groups' gap in mean cross-entropy without the channel; negative = removal narrows the gap.

    The gap is the largest minus the smallest mean loss of a group, |L_1 - L_0| for two groups. To first order it
    changes by -(mean A_ik over the group of the largest loss - mean A_ik over that of the smallest).
    """

    batch_size: Annotated[int, Ge(1)] = 128

    def combined(self, parts: Sequence[_Passed], group: Tensor) -> Tensor:
        """(R, C): ``group`` says between which samples the gap is taken. One pass serves all labellings.

        Raises ScoreError where the samples of a labelling are all of one group.
        """
        loss, part = (torch.cat(column) for column in zip(*parts, strict=True))
        return torch.cat([_gap_changes(loss, part, rows) for rows in torch.split(group, _ROWS)]).float()


def _gap_changes(loss: Tensor, part: Tensor, labellings: Tensor) -> Tensor:
    """(N,) losses, (N, C) parts and (R, N) codes to (R, C) changes of the gap."""
    member = torch.stack([labellings == code for code in torch.unique(labellings)]).double()  # (G, R, N)
    count = member.sum(2, keepdim=True)
    absent = count[:, :, 0] == 0
    share = member / count.clamp(min=1)
    mean_loss, mean_part = share @ loss, share @ part  # (G, R), (G, R, C)
    if ((~absent).sum(0) < 2).any():
        raise ScoreError(
            "the scoring samples are all of one group, so there is no gap between groups and no channel can be "
            "scored; check the data set's groups."
        )
    worst = mean_loss.masked_fill(absent, -torch.inf).argmax(0)
    best = mean_loss.masked_fill(absent, torch.inf).argmin(0)
    rows = torch.arange(len(labellings))
    return mean_part[best, rows] - mean_part[worst, rows]


def _pass(learner: Learner, layer: PrunableLayer, batch: Batch) -> _Passed:
    """One forward pass, and a backward pass that goes no deeper than the layer and touches no parameter's gradient."""
    maps: list[Tensor] = []

    def catch(module: Any, inputs: Any, output: Tensor) -> Tensor:
        maps.append(output.detach().requires_grad_())
        return maps[-1].clone()  # an activation may work in place on what it is given

    handle = learner.network.get_submodule(layer.name).register_forward_hook(catch)
    try:
        with torch.enable_grad():
            logits = learner(batch.image, batch.group)
    finally:
        handle.remove()
    size = len(batch.label)
    if not maps or any(len(each) != size for each in maps):
        raise RuntimeError(
            f"a forward pass of {type(learner).__name__} over {size} samples reached layer {layer.name} with "
            f"{[len(each) for each in maps]} samples; each sample has to pass it in the batch's order."
        )
    with torch.enable_grad():
        loss = functional.cross_entropy(logits, batch.label, reduction="none")
        gradients = torch.autograd.grad(loss.sum(), maps)
    parts = [(z * g).detach().flatten(2).sum(2) for z, g in zip(maps, gradients, strict=True)]
    part = torch.stack(parts).double().sum(0)
    return _Passed(loss.detach().double().cpu(), part.cpu())
