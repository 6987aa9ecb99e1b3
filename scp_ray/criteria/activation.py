"""Faint maps first: a channel that hardly answers to any image is missed least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from annotated_types import Ge
from torch import Tensor

from scp_ray.activations import layer_output
from scp_ray.criteria.base import BatchwiseCriterion, register
from scp_ray.parts import Batch, Learner, PrunableLayer


class _Summed(NamedTuple):
    """The sum over one batch."""

    size: Tensor  # (C,) float64, of |z| averaged over positions
    samples: int


@register("activation")
@dataclass(frozen=True)
class Activation(BatchwiseCriterion):
    """Mean |z| of the channel's map at the convolution's output, over positions and samples.

    Molchanov et al. 2017 name the mean activation after the ReLU as a criterion to compare with; here, as for every
    criterion, the map is taken before norm and activation, hence the absolute value.
    """

    uses_groups = False

    batch_size: Annotated[int, Ge(1)] = 128

    def part(self, learner: Learner, layer: PrunableLayer, batch: Batch, group: Tensor) -> _Summed:
        """Sum over the batch's samples."""
        size = layer_output(learner, layer, batch).abs().flatten(2).mean(2)
        return _Summed(size.double().sum(0).cpu(), len(size))

    def combined(self, parts: Sequence[_Summed], group: Tensor) -> Tensor:
        """(R, C) of equal rows: labellings do not matter. Every sample counts equally."""
        total = sum((part.size for part in parts[1:]), parts[0].size)
        scores = (total / sum(part.samples for part in parts)).float()
        return scores.expand(len(group), -1)
