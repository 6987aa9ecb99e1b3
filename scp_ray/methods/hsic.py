"""HSIC penalty: within each class, penultimate features shall not depend on the group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from scp_ray.activations import with_features
from scp_ray.maths.kernels import FEWEST, unbiased_hsic
from scp_ray.methods.base import Method, group_count, register
from scp_ray.parts import Batch, FairnessData, Learner, Network


class HSICLearner(Learner):
    """The plain classifier with one more term in its training loss; inference is the ordinary network."""

    def __init__(self, network: Network, *, groups: int, weight: float) -> None:
        super().__init__(*network)
        self.groups = groups
        self.weight = weight
        self._recorded: dict[str, Tensor] = {}  # of the last loss

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy + weight * sum over the active classes of HSIC(features, one-hot group).

        A class is active with at least 4 samples of at least two groups; with one group alone HSIC is exactly 0.
        """
        logits, features = with_features(self.network, batch.image)
        group = functional.one_hot(batch.group, self.groups).double()
        cells = functional.one_hot(batch.label, logits.shape[1]).T.double() @ group
        active = (cells.sum(1) >= FEWEST) & ((cells > 0).sum(1) > 1)
        by_class = unbiased_hsic(features, group, batch.label, logits.shape[1])
        hsic = torch.where(active, by_class, 0.0).sum()
        self._recorded = {"hsic": hsic.detach(), "active_classes": active.sum().float()}
        return functional.cross_entropy(logits, batch.label) + self.weight * hsic

    def training_step_(
        self, batch: Batch, optimizers: Mapping[str, Optimizer], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Records also "hsic", before its weight, and "active_classes", how many classes it came from."""
        return super().training_step_(batch, optimizers, generator) | self._recorded


@register("hsic")
@dataclass(frozen=True)
class HSIC(Method):
    """Quadrianto et al. 2019, in the form that the published tables compare with: a regulariser of features.

    Nearly inert with many classes: in a batch of 128 over 114 balanced classes about 3 hold 4 samples.
    ``active_classes`` in the record says how many did.

    Args:
        weight: lambda, of the sum (not the mean) over classes. 0.5 in the released code.
    """

    weight: Annotated[float, Ge(0)] = 0.5

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """The plain network, trained with the penalty; any number of groups."""
        return HSICLearner(backbone(), groups=group_count(data), weight=self.weight)
