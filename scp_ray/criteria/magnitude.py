"""Small weights first: the classic criterion that knows nothing of groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from scp_ray.criteria.base import Criterion, register
from scp_ray.parts import Batch, Learner, PrunableLayer


@register("magnitude")
@dataclass(frozen=True)
class Magnitude(Criterion):
    """Sum of absolute weights of each output channel (Li et al. 2017)."""

    uses_groups = False

    def score(
        self, learner: Learner, layer: PrunableLayer, batches: Iterable[Batch], *, group: Tensor | None = None
    ) -> Tensor:
        """(C,), or (R, C) of equal rows: labellings do not matter."""
        weight: Tensor = learner.network.get_submodule(layer.name).weight  # type: ignore[assignment]
        scores = weight.detach().abs().flatten(1).sum(1).float().cpu()
        return scores if group is None else scores.expand(len(group), -1)
