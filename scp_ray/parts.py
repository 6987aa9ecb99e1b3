"""The nouns that all higher floors share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Optimizer

from scp_ray.maths.accumulation import accumulate_
from scp_ray.maths.report import FairnessReport, fairness_report

SPLITS = ("train", "val", "test")


class Batch(NamedTuple):
    """Samples of one step, all on one device."""

    image: Tensor  # (N, 3, H, W) float in [0, 1]
    label: Tensor  # (N,) int64
    group: Tensor  # (N,) int64, the primary sensitive attribute
    attributes: Tensor  # (N, A) int64, all sensitive attributes, the primary first

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


@dataclass(frozen=True)
class Split:
    """One split of a data set, decoded."""

    image: Tensor  # (N, 3, S, S) uint8
    label: Tensor  # (N,) int64
    attributes: Tensor  # (N, A) int64
    id: tuple[str, ...]
    unit: tuple[str, ...]  # what may not be torn apart: lesion, else patient, else image

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class FairnessData:
    """A data set with sensitive attributes; ``attribute_names[0]`` is the primary one, the group."""

    name: str
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    privileged_code: int | None  # which group code the literature calls privileged; None where nobody said
    splits: Mapping[str, Split]  # train, val, test
    sources: str = ""  # SHA-256 over the contents of the image files; empty for generated data

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)


@dataclass(frozen=True)
class TrainPlan:
    """How to train by SGD, by default as the released code does; lr is multiplied by lr_gamma every lr_step epochs."""

    epochs: Annotated[int, Ge(0)] = 200
    batch_size: Annotated[int, Ge(2)] = 128
    lr: Annotated[float, Gt(0)] = 0.01
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Ge(0)] = 1e-5
    lr_step: Annotated[int, Ge(1)] = 100
    lr_gamma: Annotated[float, Gt(0)] = 0.1
    sampler: Literal["method", "class", "group", "class_group", "plain"] = "method"  # what an epoch is balanced over
    augment: Literal["released", "flips", "none"] = "released"
    loss: Literal["native", "ce"] = "native"  # the method's own, or plain cross-entropy
    precision: Literal["float32", "bf16"] = "float32"  # of the network's own products in training; see modes


@dataclass(frozen=True)
class PrunableLayer:
    """A convolution whose output channels can be pruned."""

    index: int  # 1..L in forward order
    name: str  # of the convolution, within the learner's network
    channels: int  # C, the original count
    norms: tuple[str, ...]  # normalisation layers fed by it alone: masked with it
    followers: tuple[str, ...] = ()  # depthwise convolutions fed by it alone: their same channels are masked with it


class Network(NamedTuple):
    """What a backbone builds."""

    module: nn.Module
    layers: tuple[PrunableLayer, ...]
    stages: tuple[str, ...] = ()  # modules whose outputs are the stages', in order; empty where the backbone has none
    name: str = ""  # what messages call the backbone


class ChannelScores(NamedTuple):
    """What ranks the channels of a layer."""

    scores: Tensor  # (C,) float32 on the CPU, low = prune first
    p: Tensor | None = None  # (C,) that a channel separates the groups no better than permuted ones; None: not asked


class Answer(NamedTuple):
    """What a learner says about a batch."""

    logits: Tensor  # (N, K) float32, what the prediction was decided by
    prediction: Tensor  # (N,)
    head: Tensor | None = None  # (N,) which exit or head decided; None where there is one only
    heads: Tensor | None = None  # (E, N, K) float32, all exits' logits, where something is still to be chosen by them


class Learner(nn.Module):
    """A network with the way it is trained and asked: what a base method builds.

    The base class is the plain classifier (cross-entropy, one SGD); methods override what differs.
    """

    unscheduled: ClassVar[frozenset[str]] = frozenset()  # names of optimizers that keep their own learning rate
    micro_batches = 1  # into how many a training batch is cut, where memory does not take it whole

    @property
    def cuts_batches(self) -> bool:
        """Whether a training step heeds ``micro_batches``; a method whose own loss is a mean over samples says so."""
        return type(self).loss is Learner.loss and type(self).training_step_ is Learner.training_step_

    def __init__(
        self, network: nn.Module, layers: tuple[PrunableLayer, ...], stages: tuple[str, ...] = (), name: str = ""
    ) -> None:
        """What a backbone builds: ``Learner(*backbone())``."""
        super().__init__()
        self.network = network
        self.layers = layers
        self.stages = stages
        self.backbone_name = name

    def forward(self, image: Tensor, group: Tensor | None = None) -> Tensor:
        """Logits (N, K). ``group`` (N,) is for methods whose inference needs it."""
        logits: Tensor = self.network(image)
        return logits

    def predict(self, image: Tensor, group: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (N, K) in float32 and the predicted class (N,): not for every method the argmax of one head."""
        logits = self(image, group).float()
        return logits, logits.argmax(1)

    def answer(self, image: Tensor, group: Tensor | None = None) -> Answer:
        """As ``predict``, with what learners of several exits or heads have to say beside it."""
        return Answer(*self.predict(image, group))

    def weighted_logits(self, image: Tensor, group: Tensor | None = None) -> list[tuple[float, Tensor]]:
        """Weights and logits (N, K) of the cross-entropies whose sum the network was trained by, for saliencies."""
        return [(1.0, self(image, group))]

    def begin_epoch_(self, epoch: int, epochs: int) -> None:
        """Called before an epoch's first step, with its number from 0, for schedules of a method's own."""

    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss."""
        return functional.cross_entropy(self(batch.image, batch.group), batch.label)

    def optimizers(self, plan: TrainPlan) -> dict[str, Optimizer]:
        """Named optimizers, fresh; the learning rates of all but the ``unscheduled`` follow the plan's schedule."""
        return {
            "sgd": SGD(
                self.parameters(),
                lr=plan.lr,
                momentum=plan.momentum,
                nesterov=plan.nesterov and plan.momentum > 0,
                weight_decay=plan.weight_decay,
            )
        }

    def training_step_(
        self, batch: Batch, optimizers: Mapping[str, Optimizer], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One step on one batch; returns detached scalars to record, among them "loss"; all have to be finite.

        ``generator`` is this epoch's own stream for whatever the method draws.
        """
        for optimizer in optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss = accumulate_(self.loss, batch, self.micro_batches)
        for optimizer in optimizers.values():
            optimizer.step()
        return {"loss": loss}


@dataclass(frozen=True)
class Evaluation:
    """What a learner says about one split, in the split's order, on the CPU."""

    label: Tensor  # (N,)
    attributes: Tensor  # (N, A)
    logits: Tensor  # (N, K) float32
    prediction: Tensor  # (N,)
    head: Tensor | None = None  # see Answer
    heads: Tensor | None = None
    at_once: int | None = None  # images asked at a time, where memory did not take whole batches

    @cached_property
    def report(self) -> FairnessReport:
        """Metrics of the primary attribute."""
        return fairness_report(
            self.label.numpy(), self.prediction.numpy(), self.attributes[:, 0].numpy(), num_classes=self.logits.shape[1]
        )


@dataclass(frozen=True)
class Epoch:
    """One epoch of training is over (0: the loop has just pruned and not yet trained)."""

    index: int
    total: int
    means: dict[str, float]  # of what the training steps recorded
    optimizers: Mapping[str, Optimizer]


@dataclass(frozen=True)
class PruneEpoch(Epoch):
    """An epoch of fine-tuning, with what a resumed loop has to know of its round."""

    round: int
    channels: Tensor  # (k,) pruned in this round
    scores: ChannelScores  # they were chosen by


@dataclass(frozen=True)
class Round:
    """One score, prune, fine-tune pass."""

    index: int  # from 1; round 0 is the model before pruning
    channels: tuple[int, ...]  # pruned in this round
    keep: Tensor  # (C,) bool, after this round
    scores: ChannelScores  # NaN where nothing was scored
    val: Evaluation
    last: bool
    stopped: bool  # the loop ended here, however many rounds it was allowed
    stop_reason: str  # what the stop rule says of this round, or empty; recorded also where it is not enforced
    means: dict[str, float] = field(default_factory=dict)  # of the last epoch
    seconds: dict[str, float] = field(default_factory=dict)


def state_to_cpu(state: Any) -> Any:
    """A state dict with every tensor copied to the CPU, so that later steps do not change it."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: state_to_cpu(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(state_to_cpu(value) for value in state)
    return state
