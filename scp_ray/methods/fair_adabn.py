"""FairAdaBN (Xu et al. 2023): shared weights, batch norms of each group's own, a loss of statistical parity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional

from scp_ray.errors import ConfigError
from scp_ray.maths.group_norm import GroupBatchNorm2d, routed
from scp_ray.methods.base import Method, register, require_two_groups
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, FairnessData, Learner, Network, PrunableLayer

BRANCHES = 2
UNKNOWN, ROUTED_TO = -1, 1  # a group nobody knows goes where the released loaders count it


@register("fair-adabn")
@dataclass(frozen=True)
class FairAdaBN(Method):
    """L = CE_0 + CE_1 + alpha L_SD, each a mean over one group; every batch norm but the stem's has two branches.

    L_SD = sum_c (P(c | group 0) - P(c | group 1))^2, with P the mean softmax probability. In the released code P is
    a share of argmax predictions, which has no gradient: ``hard`` gives that form. Inference needs the group.

    One forward pass takes the whole batch, and each adapted norm routes every sample through its group's branch. The
    released code passes each group by itself; the results are the same but for the stem's norm, which is shared: in
    train mode it here sees the statistics of the whole batch once, there those of each group in turn.
    """

    alpha: Annotated[float, Ge(0)] = 1.0
    hard: bool = False

    def check(self, network: Network, data_name: str, privileged_code: int | None, image_size: int) -> None:
        """Refuses a backbone that has no batch norm beside its first."""
        if sum(isinstance(part, nn.BatchNorm2d) for part in network.module.modules()) < 2:
            raise _no_norm(network)

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """The network with its norms doubled. Raises ConfigError where it has none, or where groups are not two."""
        require_two_groups(self, data)
        image = torch.zeros_like(data.splits["train"].image[:1], dtype=torch.float32)
        return FairAdaBNLearner(self, _adapted_(backbone(), image))


class FairAdaBNLearner(Learner):
    """Asks for the group wherever it is asked for an image's class."""

    def __init__(self, method: FairAdaBN, network: Network) -> None:
        super().__init__(*network)
        self.method = method

    def forward(self, image: Tensor, group: Tensor | None = None) -> Tensor:
        """Logits (N, K). ``group`` (N,) of 0 and 1; -1, unknown, is routed as 1. ConfigError where it is missing."""
        if group is None:
            raise ConfigError("method: fair-adabn needs the group of every image at inference too. Pass group.")
        with routed(self.network, _branch(group), BRANCHES):
            logits: Tensor = self.network(image)
        return logits

    def loss(self, batch: Batch) -> Tensor:
        """CE_0 + CE_1 + alpha L_SD; a group without samples adds nothing, and L_SD needs both."""
        logits, branch = self(batch.image, batch.group), _branch(batch.group)
        present = [rows for rows in (branch == code for code in range(BRANCHES)) if rows.any()]
        losses = [functional.cross_entropy(logits[rows], batch.label[rows]) for rows in present]
        if len(present) == BRANCHES:
            losses.append(self.method.alpha * parity_gap(*(logits[rows] for rows in present), hard=self.method.hard))
        return torch.stack(losses).sum()


def parity_gap(first: Tensor, second: Tensor, *, hard: bool = False) -> Tensor:
    """L_SD, the squared distance between two groups' predicted class shares.

    Args:
        first, second: logits (N0, K) and (N1, K), neither empty.
        hard: shares of argmax predictions, which have no gradient, instead of mean probabilities.
    """

    def shares(logits: Tensor) -> Tensor:
        if hard:
            return functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype).mean(0)
        return logits.softmax(1).mean(0)

    return (shares(first) - shares(second)).square().sum()


def _branch(group: Tensor) -> Tensor:
    return torch.where(group == UNKNOWN, ROUTED_TO, group)


def _adapted_(network: Network, image: Tensor) -> Network:
    """Replaces every BatchNorm2d but the first that a forward pass of ``image`` (1, 3, S, S) meets."""
    _, *names = _norms_in_forward_order(network.module, image) or [""]
    if not names:
        raise _no_norm(network)
    for name in names:
        owner, _, own_name = name.rpartition(".")
        norm = network.module.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        setattr(network.module.get_submodule(owner), own_name, GroupBatchNorm2d(norm, BRANCHES))
    return network._replace(layers=tuple(_renamed(layer, names) for layer in network.layers))


def _norms_in_forward_order(module: nn.Module, image: Tensor) -> list[str]:
    met: list[nn.Module] = []
    named: dict[nn.Module, str] = {m: name for name, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)}
    handles = [norm.register_forward_pre_hook(lambda norm, _: met.append(norm)) for norm in named]
    try:
        with evaluating(module), torch.no_grad():
            module(image)
    finally:
        for handle in handles:
            handle.remove()
    return [named[norm] for norm in dict.fromkeys(met)]


def _renamed(layer: PrunableLayer, adapted: list[str]) -> PrunableLayer:
    """A pruned channel is silenced in both branches of the norms it feeds."""
    norms: list[str] = []
    for name in layer.norms:
        norms += [f"{name}.branches.{branch}" for branch in range(BRANCHES)] if name in adapted else [name]
    return replace(layer, norms=tuple(norms))


def _no_norm(network: Network) -> ConfigError:
    return ConfigError(
        f"method: fair-adabn doubles the batch norms after the first, and {network.name or 'this network'} has "
        "none. Use a backbone with batch norm: vgg11-bn, resnet18 or tiny."
    )
