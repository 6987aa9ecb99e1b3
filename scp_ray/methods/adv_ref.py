"""AdvRef (the printed name; gradient reversal): the network climbs what a domain head descends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from scp_ray.activations import last_linear, with_features
from scp_ray.maths.adversarial import balanced_cross_entropy, projected_gradient, reversal_ramp, reverse_gradient
from scp_ray.methods.adversary import AdversaryLearner, AdversaryMethod, untouched
from scp_ray.methods.base import group_count, register
from scp_ray.parts import Batch, FairnessData, Learner, Network


@register("adv-ref")
@dataclass(frozen=True)
class AdvRef(AdversaryMethod):
    """Cross-entropy + CE_dom(head(GRL(f)), group), with a linear head on penultimate features and a reversed gradient.

    The reversal's strength is ramped as 2/(1+exp(-10 p))-1 over the share p of the epochs that are over, so the first
    epoch is vanilla's. CE_dom counts every group present in a batch equally, and the head has an Adam of its own, as
    in adv-conf: under the plan's SGD its weight decay and its falling learning rate would weaken the adversary.

    ``projection`` is the variant of Wang et al. 2020 after Zhang et al. 2018: the head reads the class logits; on
    every ``training_ratio``-th epoch each parameter tensor moves along g_c - alpha g_d - (<g_c,g_d>/|g_d|^2) g_d, and
    on the other epochs only the head learns. Nothing bounds this game: where adversary_loss climbs far above ln 2, the
    head has fallen behind and needs a higher ``adversary_lr``.

    No public code of the paper says what "AdvRef" is; gradient reversal is the reading of its list of baselines.
    """

    strength: Annotated[float, Ge(0)] = 1.0  # lambda, at the end of the ramp; without projection
    projection: bool = False
    alpha: Annotated[float, Ge(0)] = 1.0  # with projection
    training_ratio: Annotated[int, Ge(1)] = 3  # with projection
    adversary_lr: Annotated[float, Gt(0)] = 1e-3  # of Adam, for the head

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """The plain classifier with a head of as many outputs as there are groups."""
        kind = ProjectionLearner if self.projection else ReversalLearner
        return kind(self, backbone(), group_count(data))


class ReversalLearner(AdversaryLearner):
    """One loss, one backward pass, both optimizers."""

    progress: Tensor

    def __init__(self, method: AdvRef, network: Network, groups: int) -> None:
        inputs = last_linear(network.module)[1].in_features
        super().__init__(network, inputs, groups, method.adversary_lr)
        self.method = method
        self.register_buffer("progress", torch.tensor(0.0))

    def begin_epoch_(self, epoch: int, epochs: int) -> None:
        """Go up the ramp; fine-tuning counts its epochs from 0 again and never goes back down."""
        self.progress.fill_(max(float(self.progress), epoch / epochs))

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy + the head's loss, whose gradient is reversed before it enters the network."""
        logits, features = with_features(self.network, batch.image)
        strength = self.method.strength * reversal_ramp(self.progress)
        groups = self.adversary(reverse_gradient(features, strength))
        return functional.cross_entropy(logits, batch.label) + balanced_cross_entropy(groups, batch.group)


class ProjectionLearner(AdversaryLearner):
    """The head learns at every step, the network on epochs 0, 3, 6, ... at a training ratio of 3."""

    def __init__(self, method: AdvRef, network: Network, groups: int) -> None:
        inputs = last_linear(network.module)[1].out_features
        super().__init__(network, inputs, groups, method.adversary_lr)
        self.method = method
        self.network_learns = True

    def begin_epoch_(self, epoch: int, epochs: int) -> None:
        """Whether the network learns in this epoch."""
        self.network_learns = epoch % self.method.training_ratio == 0

    def training_step_(
        self, batch: Batch, optimizers: Mapping[str, Optimizer], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Both players move from where they stood at the forward pass."""
        if not self.network_learns:
            with untouched(self.network):
                logits = self.network(batch.image)
            loss = self.adversary_step_(logits, batch.group, optimizers["adversary"])
            return {"loss": loss, "adversary_loss": loss}
        logits = self.network(batch.image)
        loss = functional.cross_entropy(logits, batch.label)
        self._set_gradients_(loss, balanced_cross_entropy(self.adversary(logits), batch.group))
        adversary_loss = self.adversary_step_(logits, batch.group, optimizers["adversary"])
        optimizers["sgd"].step()
        return {"loss": loss.detach(), "adversary_loss": adversary_loss}

    def _set_gradients_(self, loss: Tensor, adversary_loss: Tensor) -> None:
        parameters = list(self.network.parameters())
        wanted = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        unwanted = torch.autograd.grad(adversary_loss, parameters, allow_unused=True)
        for parameter, own, other in zip(parameters, wanted, unwanted, strict=True):
            # the head reads the logits: what reaches the one loss reaches the other
            parameter.grad = None if own is None else projected_gradient(own, other, self.method.alpha)
