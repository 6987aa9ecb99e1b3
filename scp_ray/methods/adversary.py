"""What adversarial methods share: a linear domain head beside the network, with an optimizer of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, Optimizer

from scp_ray.maths.adversarial import balanced_cross_entropy
from scp_ray.methods.base import Method
from scp_ray.parts import Learner, Network, TrainPlan


class AdversaryMethod(Method):
    """What both methods have in common."""

    def revision(self, plan: TrainPlan) -> int:
        """1 where the plan's learning rate falls: the head's once fell with it."""
        return int(plan.epochs > plan.lr_step and plan.lr_gamma != 1 and plan.loss == "native")


class AdversaryLearner(Learner):
    """A classifier and a head that tells the groups from what the classifier makes of an image.

    The head is part of the state, so that fine-tuning goes on with it; inference does without it.
    """

    unscheduled = frozenset({"adversary"})

    def __init__(self, network: Network, inputs: int, groups: int, adversary_lr: float) -> None:
        super().__init__(*network)
        self.adversary = nn.Linear(inputs, groups)
        self.adversary_lr = adversary_lr

    def optimizers(self, plan: TrainPlan) -> dict[str, Optimizer]:
        """The plan's SGD for the network alone, and Adam for the head, whose learning rate stays as it is."""
        network = Learner(self.network, self.layers)
        return network.optimizers(plan) | {"adversary": Adam(self.adversary.parameters(), lr=self.adversary_lr)}

    def adversary_step_(self, inputs: Tensor, group: Tensor, optimizer: Optimizer) -> Tensor:
        """One step of the head on ``inputs`` (N, d), every group present counting equally; returns the loss before."""
        optimizer.zero_grad(set_to_none=True)
        loss = balanced_cross_entropy(self.adversary(inputs.detach()), group)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """No gradient, and train mode that leaves no trace, for steps that teach the head alone.

    Batch norms go on normalising by the batch and dropout goes on dropping, as in the steps that train the network,
    but no running statistic moves: a norm that does not track them is not given them.
    """
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    for norm in norms:
        norm.track_running_stats = not norm.training
    try:
        with torch.no_grad():
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
