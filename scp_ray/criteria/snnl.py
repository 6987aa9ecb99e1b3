"""Soft nearest neighbour loss: the paper's criterion, and the form in which its code was released."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from scp_ray.activations import layer_output
from scp_ray.criteria.base import Criterion, register
from scp_ray.errors import ScoreError
from scp_ray.maths.snnl import snnl_scores
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, Learner, PrunableLayer


@register("snnl")
@dataclass(frozen=True)
class SNNL(Criterion):
    """Paper, Eq. 1, averaged over batches; low = the channel's maps separate the groups."""

    distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    temperature: Annotated[float, Gt(0)] | Literal["auto"] = "auto"
    self_pair: Literal["exclude", "numerator_only"] = "exclude"
    batch_size: Annotated[int, Ge(2)] = 128
    order: Literal["permuted", "table"] = "permuted"
    last_batch: Literal["half", "drop"] = "half"

    def score(
        self, learner: Learner, layer: PrunableLayer, batches: Iterable[Batch], *, group: Tensor | None = None
    ) -> Tensor:
        """Mean over batches of ``snnl_scores``; a batch that cannot tell the groups apart is left out.

        Raises ScoreError where every batch has to be left out.
        """
        total, used, start = None, None, 0
        with evaluating(learner):
            for batch in batches:
                size = len(batch.label)
                labellings = batch.group[None] if group is None else group[:, start : start + size].to(batch.group)
                start += size
                usable = torch.tensor([_tells_groups_apart(row) for row in labellings])
                if not usable.any():
                    continue
                maps = layer_output(learner, layer, batch).float()
                scores = torch.zeros(len(usable), layer.channels, dtype=torch.float64)
                scores[usable] = snnl_scores(
                    maps,
                    labellings[usable.to(labellings.device)],
                    distance=self.distance,
                    temperature=self.temperature,
                    self_pair=self.self_pair,
                ).to("cpu", torch.float64)
                total = scores if total is None else total + scores
                used = usable.long() if used is None else used + usable
        if total is None or used is None or (used == 0).any():
            raise ScoreError(
                "no scoring batch holds two groups with at least one pair in one of them, so no channel can be "
                "scored; use a larger criterion.batch_size, or check the data set's groups."
            )
        mean = (total / used[:, None]).float()
        return mean[0] if group is None else mean

    def offset(self, group: Tensor, sizes: Sequence[int]) -> Tensor:
        """The score of a constant map: it depends on the groups' shares of each batch alone."""
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
