"""AdvConf: features from which a domain head can only guess the group (adversarial uniform confusion)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from scp_ray.activations import last_linear, with_features
from scp_ray.maths.adversarial import confusion_loss
from scp_ray.methods.adversary import AdversaryLearner, AdversaryMethod, untouched
from scp_ray.methods.base import group_count, register
from scp_ray.parts import Batch, FairnessData, Learner, Network


@register("adv-conf")
@dataclass(frozen=True)
class AdvConf(AdversaryMethod):
    """A linear head learns the group from penultimate features; the network learns to leave it undecided.

    Phase D moves the head alone, phase M the network alone: cross-entropy + alpha * L_conf through the frozen head,
    L_conf = -mean_i mean_k log softmax(head(f_i))_k. With ``schedule: step`` both follow each other on every batch,
    so that the network takes as many steps as vanilla's.

    Sources: the loss of Tzeng et al. 2015 and Alvi et al. 2018. The released comparison of Wang et al. 2020 differs:
    it alternates by epochs (``schedule: epoch``), and its head does not weigh the groups.
    """

    alpha: Annotated[float, Ge(0)] = 1.0
    schedule: Literal["step", "epoch"] = "step"
    training_ratio: Annotated[int, Ge(1)] = 3  # schedule epoch: one epoch of phase M, then this many less one of D
    adversary_lr: Annotated[float, Gt(0)] = 1e-3  # of Adam, for the head
    clip_norm: Annotated[float, Gt(0)] = 5.0  # of the network's whole gradient

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """The plain classifier with a head of as many outputs as there are groups."""
        return ConfusionLearner(self, backbone(), group_count(data))


class ConfusionLearner(AdversaryLearner):
    """Two players; who moves in this epoch is set by ``begin_epoch_``."""

    def __init__(self, method: AdvConf, network: Network, groups: int) -> None:
        inputs = last_linear(network.module)[1].in_features
        super().__init__(network, inputs, groups, method.adversary_lr)
        self.method = method
        self.network_learns = True

    def begin_epoch_(self, epoch: int, epochs: int) -> None:
        """With ``schedule: epoch``, M, D, D, M, D, D, ... at a training ratio of 3."""
        self.network_learns = self.method.schedule == "step" or epoch % self.method.training_ratio == 0

    def loss(self, batch: Batch) -> Tensor:
        """Phase M's: no gradient reaches the head."""
        return self._network_loss(*with_features(self.network, batch.image), batch.label)[0]

    def training_step_(
        self, batch: Batch, optimizers: Mapping[str, Optimizer], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One forward pass, then what the schedule says; its batch statistics are recorded for phase M only."""
        if not self.network_learns:
            with untouched(self.network):
                _, features = with_features(self.network, batch.image)
            loss = self.adversary_step_(features, batch.group, optimizers["adversary"])
            return {"loss": loss, "adversary_loss": loss}
        logits, features = with_features(self.network, batch.image)
        recorded = {}
        if self.method.schedule == "step":
            recorded["adversary_loss"] = self.adversary_step_(features, batch.group, optimizers["adversary"])
        loss, confusion = self._network_loss(logits, features, batch.label)
        optimizers["sgd"].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.method.clip_norm)
        optimizers["sgd"].step()
        return recorded | {"loss": loss.detach(), "confusion_loss": confusion.detach()}

    def _network_loss(self, logits: Tensor, features: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        head = self.adversary
        confusion = confusion_loss(functional.linear(features, head.weight.detach(), head.bias.detach()))
        return functional.cross_entropy(logits, label) + self.method.alpha * confusion, confusion
