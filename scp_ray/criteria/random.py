"""Channels at random: the control that says what pruning alone does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scp_ray.criteria.base import Criterion, register
from scp_ray.parts import Batch, Learner, PrunableLayer
from scp_ray.seeds import derive_seed


@register("random")
@dataclass(frozen=True)
class Random(Criterion):
    """One random ranking of a layer's channels per seed, the same in every round."""

    uses_groups = False

    seed: int = 0

    def seeded(self, seed: int) -> Criterion:
        """A ranking of its own for each trial seed."""
        return replace(self, seed=derive_seed(seed, "random-criterion", self.seed))

    def score(
        self, learner: Learner, layer: PrunableLayer, batches: Iterable[Batch], *, group: Tensor | None = None
    ) -> Tensor:
        """A permutation of 0..C-1; labellings do not matter, so R of them give R equal rows."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, layer.name))
        scores = torch.randperm(layer.channels, generator=generator).float()
        return scores if group is None else scores.expand(len(group), -1)
