"""Multi-exit training (Chiu et al. 2023): classifiers inside the network, since deeper features are the less fair."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from scp_ray.activations import outputs_of
from scp_ray.errors import ConfigError
from scp_ray.maths.exits import Fallback, choose_exits
from scp_ray.maths.fate import fate
from scp_ray.maths.report import FairnessReport, fairness_report
from scp_ray.methods.base import Method, register
from scp_ray.modes import evaluating
from scp_ray.parts import Answer, Batch, Evaluation, FairnessData, Learner, Network

_SMALLEST_MAP = 3  # an exit begins with an unpadded 3 x 3 convolution


class MultiExitLearner(Learner):
    """A network with an internal classifier (exit) after each stage; the network's own head is the last exit."""

    threshold: Tensor

    def __init__(self, network: Network, exits: nn.ModuleList, tau: tuple[float, ...], fallback: Fallback) -> None:
        super().__init__(*network)
        self.exits = exits
        self.tau = tau
        self._fallback = fallback
        self.register_buffer("threshold", torch.tensor(0.8, dtype=torch.float64))

    def exit_logits(self, image: Tensor) -> Tensor:
        """(E, N, K), the network's own head last."""
        maps, logits = outputs_of(self.network, self.stages, image)
        return torch.stack([*(each(part) for each, part in zip(self.exits, maps, strict=True)), logits])

    def weighted_logits(self, image: Tensor, group: Tensor | None = None) -> list[tuple[float, Tensor]]:
        """Every exit's, with its tau."""
        return list(zip(self.tau, self.exit_logits(image), strict=True))

    @property
    def cuts_batches(self) -> bool:
        """A sum of means over samples."""
        return True

    def loss(self, batch: Batch) -> Tensor:
        """Sum over exits of tau times cross-entropy."""
        terms = self.weighted_logits(batch.image)
        return torch.stack([tau * functional.cross_entropy(logits, batch.label) for tau, logits in terms]).sum()

    def answer(self, image: Tensor, group: Tensor | None = None) -> Answer:
        """Each sample by the exit that ``choose_exits`` finds for it."""
        heads = self.exit_logits(image).float()
        head = choose_exits(heads.softmax(2).amax(2), float(self.threshold), self._fallback)
        logits = heads[head, torch.arange(head.shape[0], device=head.device)]
        return Answer(logits, logits.argmax(1), head, heads)

    def predict(self, image: Tensor, group: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The logits of each sample's exit and its class."""
        return self.answer(image, group)[:2]


@register("me")
@dataclass(frozen=True)
class MultiExit(Method):
    """Cross-entropy at every exit; a confident sample leaves early. The exit threshold is chosen on validation.

    ``tau`` weighs the exits' losses: "auto" is 1 for ResNets, else 0.3, 0.45, 0.6, 0.75, 0.9, as the released code has
    them. ``thresholds`` are tried on validation: the best FATE (Eodd) against the vanilla model, then the best F1.
    """

    tau: tuple[Annotated[float, Gt(0)], ...] | Literal["auto"] = "auto"
    thresholds: tuple[Annotated[float, Ge(0)], ...] = (0.8, 0.85, 0.9, 0.95, 0.99, 0.999)
    fallback: Fallback = "most_confident"
    pooled: Annotated[int, Ge(_SMALLEST_MAP)] = 64  # side of the map between an exit's two convolutions

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise ConfigError("thresholds: got none; at least one has to be there to choose from.")

    def check(self, network: Network, data_name: str, privileged_code: int | None, image_size: int) -> None:
        """Refuses a backbone without stages, images too small for an exit, and weights for other exits."""
        if not network.stages:
            raise ConfigError(
                f"method: me puts a classifier after each stage, and backbone {network.name} names none. "
                "Choose vgg11, vgg11-bn, resnet18 or tiny."
            )
        smallest = min(min(part.shape[2:]) for part in _maps(network, image_size))
        if smallest < _SMALLEST_MAP:
            raise ConfigError(
                f"method: me needs maps of at least {_SMALLEST_MAP} x {_SMALLEST_MAP} after every stage; those of "
                f"{network.name} go down to {smallest} at {image_size} px. Use a larger image_size."
            )
        self._weights(network)

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """Raises ConfigError for what ``check`` refuses."""
        network, size = backbone(), data.splits["train"].image.shape[-1]
        self.check(network, data.name, data.privileged_code, size)
        exits = nn.ModuleList(_exit(part.shape[1], data.num_classes, self.pooled) for part in _maps(network, size))
        return MultiExitLearner(network, exits, self._weights(network), self.fallback)

    def _weights(self, network: Network) -> tuple[float, ...]:
        count = len(network.stages) + 1
        if self.tau == "auto":
            plain = network.name.startswith("resnet")
            return tuple(1.0 if plain else round(0.3 + 0.15 * index, 2) for index in range(count))
        if len(self.tau) != count:
            raise ConfigError(
                f"tau: got {len(self.tau)} weights; {network.name} has {count} exits, its own head the last."
            )
        return self.tau

    def calibrate_(self, learner: Learner, val_outputs: Evaluation, reference: FairnessReport | None) -> bool:
        """Set the exit threshold."""
        assert isinstance(learner, MultiExitLearner) and val_outputs.heads is not None
        confidence = val_outputs.heads.softmax(2).amax(2)
        said = val_outputs.heads.argmax(2)

        def worth(threshold: float) -> tuple[float, float]:
            head = choose_exits(confidence, threshold, self.fallback)
            report = fairness_report(
                val_outputs.label.numpy(),
                said[head, torch.arange(len(head))].numpy(),
                val_outputs.attributes[:, 0].numpy(),
                num_classes=val_outputs.heads.shape[2],  # type: ignore[union-attr]
            )
            return _fate(report, reference), report.f1_mean

        learner.threshold.fill_(max(self.thresholds, key=worth))  # the first of equals
        return True


def _maps(network: Network, size: int) -> list[Tensor]:
    """What the stages put out for one image, on the network's device."""
    image = torch.zeros(1, 3, size, size, device=next(network.module.parameters()).device)
    with evaluating(network.module), torch.no_grad():
        return outputs_of(network.module, network.stages, image)[0]


def _fate(report: FairnessReport, reference: FairnessReport | None) -> float:
    """FATE (Eodd); the same for all where it is undefined, so that F1 decides."""
    if reference is None:
        return -math.inf
    value = fate(report.f1_mean, report.eodd, f1_baseline=reference.f1_mean, gap_baseline=reference.eodd)
    return -math.inf if math.isnan(value) else value


def _exit(channels: int, num_classes: int, pooled: int) -> nn.Sequential:
    """Linear in its input, as in the released code: no activation and no norm."""
    return nn.Sequential(
        nn.Conv2d(channels, 64, 3),
        nn.AdaptiveAvgPool2d(pooled),
        nn.Conv2d(64, 32, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )
