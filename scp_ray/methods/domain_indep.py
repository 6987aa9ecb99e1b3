"""DomainIndep (Wang et al. 2020): shared features, and a classifier of each group's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from scp_ray.errors import ConfigError
from scp_ray.methods.base import Method, group_count, register
from scp_ray.parts import Batch, FairnessData, Learner, Network

Inference = Literal["sum-out", "conditional", "max", "sum-prob"]


@register("domain-indep")
@dataclass(frozen=True)
class DomainIndep(Method):
    """The last layer has K outputs per group; a sample trains its own group's K only, by a softmax within them.

    How the heads decide together: ``sum-out`` sums their logits (the published default; needs no group), ``max``
    takes each class's highest logit, ``sum-prob`` sums probabilities, ``conditional`` asks the sample's own head.
    A head that has seen no sample of a class (a class absent from a group) counts against it in a sum.
    """

    inference: Inference = "sum-out"

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """A network with G * K outputs; any number of groups."""
        groups = group_count(data)
        return DomainIndepLearner(self.inference, backbone(groups * data.num_classes), groups)


class DomainIndepLearner(Learner):
    """``forward`` gives the (N, K) logits that the rule decides by; the prediction is their argmax."""

    def __init__(self, inference: Inference, network: Network, groups: int) -> None:
        super().__init__(*network)
        self.inference = inference
        self.groups = groups

    def heads(self, image: Tensor) -> Tensor:
        """Every head's logits, (N, G, K)."""
        logits: Tensor = self.network(image)
        return logits.view(logits.shape[0], self.groups, -1)  # len() would fix the batch of an exported graph

    def forward(self, image: Tensor, group: Tensor | None = None) -> Tensor:
        """(N, K); for ``sum-prob`` the logarithm of the summed probabilities. ``conditional`` needs ``group`` (N,)."""
        return combined(self.heads(image), self.inference, group)

    def weighted_logits(self, image: Tensor, group: Tensor | None = None) -> list[tuple[float, Tensor]]:
        """The logits of each sample's own head, which is what it trains; needs ``group``."""
        return [(1.0, combined(self.heads(image), "conditional", group))]

    @property
    def cuts_batches(self) -> bool:
        """A mean over samples."""
        return True

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of each sample's own head; the other heads get no gradient from it."""
        return functional.cross_entropy(combined(self.heads(batch.image), "conditional", batch.group), batch.label)


def combined(heads: Tensor, inference: Inference, group: Tensor | None = None) -> Tensor:
    """(N, K) logits of a rule from those of the heads (N, G, K).

    ``group`` (N,) has codes 0..G-1; any other raises RuntimeError. Raises ConfigError where the rule needs it and it
    is not given.
    """
    if inference == "sum-out":
        return heads.sum(1)
    if inference == "max":
        return heads.amax(1)
    if inference == "sum-prob":
        return torch.logsumexp(functional.log_softmax(heads, 2), 1)
    if group is None:
        raise ConfigError(
            "method: domain-indep needs the group of every image to ask its own head. Pass group, or build it with "
            "inference: sum-out, max or sum-prob."
        )
    # gather refuses a code without a head; indexing and take_along_dim read another head instead
    return heads.gather(1, group.view(-1, 1, 1).expand(-1, 1, heads.shape[2])).squeeze(1)
