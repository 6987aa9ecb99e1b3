"""MFD: per class, a vanilla teacher's features are the target that each group's features are drawn to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from scp_ray.activations import with_features
from scp_ray.maths.kernels import squared_mmd
from scp_ray.methods.base import Method, group_count, methods, register
from scp_ray.parts import Batch, FairnessData, Learner, Network


class MFDLearner(Learner):
    """The student. Only its training looks at the teacher; inference is the ordinary network.

    The teacher is frozen and stays in eval mode, and is no part of the student: neither of its parameters nor of its
    state, so pruning and saving the student leave it alone.
    """

    def __init__(self, network: Network, teacher: Learner, *, groups: int, coefficient: float, sigma: float) -> None:
        super().__init__(*network)
        self.groups = groups
        self.coefficient = coefficient
        self.sigma = sigma
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list: no part of the state
        self._recorded: dict[str, Tensor] = {}  # of the last loss

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy + coefficient * sum over the (class, group) cells that hold samples of MMD².

        MMD² is between the teacher's features of the class, all groups together, and the student's of the cell.
        """
        logits, features = with_features(self.network, batch.image)
        classes = functional.one_hot(batch.label, logits.shape[1]).T.bool()
        groups = functional.one_hot(batch.group, self.groups).T.bool()
        cells = (classes[:, None] & groups[None, :]).flatten(0, 1)
        pooled = classes.repeat_interleave(self.groups, 0)
        mmd = squared_mmd(self._target(batch.image), features, pooled, cells, sigma=self.sigma).sum()
        self._recorded = {"mmd": mmd.detach(), "cells": cells.any(1).sum().float()}
        return functional.cross_entropy(logits, batch.label) + self.coefficient * mmd

    def _target(self, image: Tensor) -> Tensor:
        teacher = self._teacher[0].to(image.device)
        with torch.no_grad():
            return with_features(teacher.network, image)[1]

    def training_step_(
        self, batch: Batch, optimizers: Mapping[str, Optimizer], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Records also "mmd", before its coefficient, and "cells", how many (class, group) cells held samples."""
        return super().training_step_(batch, optimizers, generator) | self._recorded


@register("mfd")
@dataclass(frozen=True)
class MFD(Method):
    """Jung et al. 2021, with the values of the code that the published tables come from.

    The sum over cells is multiplied by alpha * weight / 2: 0.02 * 5 / 2 = 0.05. Where most cells hold no or one
    sample, the term only draws single features to the teacher's; ``cells`` in the record says how many held any.

    Args:
        weight: lambda.
        alpha: of the whole term.
        sigma: multiplies the kernel's bandwidth, the mean squared distance of the batch's teacher to student features.
    """

    weight: Annotated[float, Ge(0)] = 5.0
    alpha: Annotated[float, Ge(0)] = 0.02
    sigma: Annotated[float, Gt(0)] = 0.5

    @property
    def needs(self) -> tuple[Method, ...]:
        """The teacher."""
        return (methods.get("vanilla")(),)

    @property
    def coefficient(self) -> float:
        """What the sum of MMD² is multiplied by."""
        return self.alpha * self.weight / 2

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """The student, of the teacher's architecture; any number of groups. Freezes ``bases["vanilla"]``."""
        return MFDLearner(
            backbone(), bases["vanilla"], groups=group_count(data), coefficient=self.coefficient, sigma=self.sigma
        )
