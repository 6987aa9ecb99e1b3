"""Nothing is pruned: the control that gets the same extra epochs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from scp_ray.criteria.base import Criterion, register
from scp_ray.parts import Batch, Learner, PrunableLayer


@register("none")
@dataclass(frozen=True)
class NoPruning(Criterion):
    """No channel goes, the same extra epochs are trained.

    SCP gets fine-tuning that no baseline row gets; without this control its gain cannot be told from more training.
    """

    prunes = False
    uses_groups = False

    def score(
        self, learner: Learner, layer: PrunableLayer, batches: Iterable[Batch], *, group: Tensor | None = None
    ) -> Tensor:
        """All NaN: there is no ranking."""
        shape = (layer.channels,) if group is None else (len(group), layer.channels)
        return torch.full(shape, float("nan"))
