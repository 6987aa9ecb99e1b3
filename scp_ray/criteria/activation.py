"""Faint maps first: a channel that hardly answers to any image is missed least."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from scp_ray.activations import layer_output
from scp_ray.criteria.base import Criterion, register
from scp_ray.errors import ScoreError
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, Learner, PrunableLayer


@register("activation")
@dataclass(frozen=True)
class Activation(Criterion):
    """Mean |z| of the channel's map at the convolution's output, over positions and samples.

    Molchanov et al. 2017 name the mean activation after the ReLU as a criterion to compare with; here, as for every
    criterion, the map is taken before norm and activation, hence the absolute value.
    """

    uses_groups = False

    batch_size: Annotated[int, Ge(1)] = 128

    def score(
        self, learner: Learner, layer: PrunableLayer, batches: Iterable[Batch], *, group: Tensor | None = None
    ) -> Tensor:
        """(C,), or (R, C) of equal rows: labellings do not matter. Every sample counts equally.

        Raises ScoreError where there is no batch.
        """
        total, samples = torch.zeros(layer.channels, dtype=torch.float64), 0
        with evaluating(learner):
            for batch in batches:
                size = layer_output(learner, layer, batch).abs().flatten(2).mean(2)
                total += size.double().sum(0).cpu()
                samples += len(size)
        if not samples:
            raise ScoreError("there is no scoring batch, so no channel can be scored; check the training split.")
        scores = (total / samples).float()
        return scores if group is None else scores.expand(len(group), -1)
