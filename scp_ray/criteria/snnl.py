"""Soft nearest neighbour loss: the paper's criterion, and the form in which its code was released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from scp_ray.activations import layer_output
from scp_ray.criteria.base import DatasetwiseCriterion, register
from scp_ray.errors import ScoreError
from scp_ray.maths.snnl import snnl_scores
from scp_ray.maths.snnl_tiled import snnl_scores_tiled
from scp_ray.parts import Batch, Learner, PrunableLayer
from scp_ray.registry import LATER


class _Scored(NamedTuple):
    """The scores of one batch."""

    scores: Tensor  # (R, C) float64, 0 where the batch cannot tell a labelling's groups apart
    usable: Tensor  # (R,) bool


@register("snnl")
@dataclass(frozen=True)
class SNNL(DatasetwiseCriterion):
    """Paper, Eq. 1, averaged over batches, or over all samples as one; low = the channel's maps separate the groups."""

    distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    temperature: Annotated[float, Gt(0)] | Literal["auto"] = "auto"
    self_pair: Literal["exclude", "numerator_only"] = "exclude"
    batch_size: Annotated[int, Ge(2)] = 128
    order: Literal["permuted", "table"] = "permuted"
    last_batch: Literal["half", "drop"] = "half"
    scope: Literal["batch", "dataset"] = field(default="batch", metadata=LATER)

    def part(self, learner: Learner, layer: PrunableLayer, batch: Batch, group: Tensor) -> _Scored:
        """``snnl_scores`` of the batch; a batch that cannot tell the groups apart is left out."""
        usable = torch.tensor([_tells_groups_apart(row) for row in group])
        scores = torch.zeros(len(usable), layer.channels, dtype=torch.float64)
        if usable.any():
            scores[usable] = snnl_scores(
                layer_output(learner, layer, batch).float(),
                group[usable],
                distance=self.distance,
                temperature=self.temperature,
                self_pair=self.self_pair,
            ).to("cpu", torch.float64)
        return _Scored(scores, usable)

    def combined(self, parts: Sequence[_Scored], group: Tensor) -> Tensor:
        """Mean over the batches that count.

        Raises ScoreError where for some labelling every batch has to be left out.
        """
        total, used = parts[0].scores, parts[0].usable.long()
        for scores, usable in parts[1:]:
            total, used = total + scores, used + usable
        if (used == 0).any():
            raise ScoreError(
                "no scoring batch holds two groups with at least one pair in one of them, so no channel can be "
                "scored; use a larger criterion.batch_size, or check the data set's groups."
            )
        return (total / used[:, None]).float()

    def block_scores(self, maps: Tensor, group: Tensor) -> Tensor:
        """``snnl_scores_tiled`` of all samples."""
        if not all(_tells_groups_apart(row) for row in group):
            raise ScoreError(
                "the samples do not hold two groups with at least one pair in one of them, so no channel can be "
                "scored; check the data set's groups."
            )
        return self._whole(maps, group)

    def _whole(self, maps: Tensor, group: Tensor) -> Tensor:
        return snnl_scores_tiled(
            maps, group, distance=self.distance, temperature=self.temperature, self_pair=self.self_pair
        ).cpu()

    def offset(self, group: Tensor, sizes: Sequence[int]) -> Tensor:
        """The score of a constant map: it depends on the groups' shares of each batch alone."""
        if self.scope == "dataset":
            return self._whole(torch.zeros(group.shape[1], 1, 1), group.cpu()).float()
        total, used = torch.zeros(len(group), dtype=torch.float64), torch.zeros(len(group))
        for part in torch.split(group.cpu(), list(sizes), 1):
            usable = torch.tensor([_tells_groups_apart(row) for row in part])
            if usable.any():
                options = {"distance": self.distance, "temperature": self.temperature, "self_pair": self.self_pair}
                constant = torch.zeros(part.shape[1], 1, 1)
                total[usable] += snnl_scores(constant, part[usable], **options).double()[:, 0]  # type: ignore[arg-type]
                used += usable
        return (total / used)[:, None].float()


@register("snnl-released")
@dataclass(frozen=True)
class SNNLReleased(SNNL):
    """The released code's form: cosine, T = 1, self pair in the numerator, batches in table order, last dropped."""

    distance: Literal["sqeuclidean", "cosine"] = "cosine"
    temperature: Annotated[float, Gt(0)] | Literal["auto"] = 1.0
    self_pair: Literal["exclude", "numerator_only"] = "numerator_only"
    order: Literal["permuted", "table"] = "table"
    last_batch: Literal["half", "drop"] = "drop"


def _tells_groups_apart(groups: Tensor) -> bool:
    """More than one group, and a pair within one of them."""
    counts = torch.unique(groups, return_counts=True)[1]
    return len(counts) > 1 and bool((counts > 1).any())
