"""The contract of a backbone, and the room's register."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from scp_ray.activations import last_linear
from scp_ray.backbones.layers import trace_layers
from scp_ray.backbones.weights import State, load_weights, replace_head_, weights_digest
from scp_ray.errors import BackboneError
from scp_ray.modes import drawing_from
from scp_ray.parts import Network
from scp_ray.registry import Registry


class Backbone:
    """A network by name. A frozen dataclass whose fields are its options; subclasses define ``module``."""

    plugin_name: ClassVar[str] = ""
    weights: str = "none"
    imagenet_name: str | None = None  # torchvision's name of the model, where it has ImageNet weights
    ignored: ClassVar[tuple[str, ...]] = ()  # parts of names of convolutions that do not count as layers
    stages: ClassVar[tuple[str, ...]] = ()  # modules whose outputs are the stages', for exits inside the network

    def __post_init__(self) -> None:
        if self.weights not in ("none", "imagenet"):
            object.__setattr__(self, "weights", str(Path(self.weights).absolute()))  # workers may start elsewhere

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.plugin_name

    def module(self, num_classes: int) -> nn.Module:
        """A randomly initialised module with ``num_classes`` outputs, drawn from the default generator."""
        raise NotImplementedError(f"{type(self).__name__} does not define module().")

    def build(self, num_classes: int, *, image_size: int, seed: int) -> Network:
        """The module with its weights, and its prunable layers in forward order.

        Raises BackboneError where the weights cannot be had or do not fit.
        """
        state = load_weights(self.weights, self.imagenet_name)
        with drawing_from(seed):
            module = self.module(num_classes) if state is None else self._loaded(state, num_classes)
        return self._network(module, torch.zeros(1, 3, image_size, image_size))

    def _loaded(self, state: State, num_classes: int) -> nn.Module:
        """The module with weights, and a fresh last linear layer where theirs has another number of classes."""
        head, _ = last_linear(self.sketch(num_classes))
        rows = state.get(f"{head}.weight")
        module = self.module(num_classes if rows is None else len(rows))
        try:
            module.load_state_dict(state)
        except (RuntimeError, ValueError) as error:
            raise BackboneError(f"weights: {self.weights} do not fit {self.title}: {error}") from error
        replace_head_(module, num_classes)
        return module

    def outline(self, num_classes: int, *, image_size: int) -> Network:
        """The same network without memory or weights (on the meta device): for its layers alone."""
        return self._network(self.sketch(num_classes), torch.zeros(1, 3, image_size, image_size, device="meta"))

    def sketch(self, num_classes: int) -> nn.Module:
        """The module on the meta device."""
        with torch.device("meta"):
            return self.module(num_classes)

    def _network(self, module: nn.Module, image: torch.Tensor) -> Network:
        layers = trace_layers(module, image, ignored=self.ignored)
        return Network(module, layers, self.stages, self.title)

    def check_weights(self) -> None:
        """Fetch what has to be fetched, once, before anything starts. Raises BackboneError where it cannot be had."""
        load_weights(self.weights, self.imagenet_name)

    def weights_digest(self) -> str:
        """What identifies the initial weights: part of a trial's identity."""
        return weights_digest(self.weights, self.imagenet_name)


backbones: Registry[Backbone] = Registry("backbone", "scp_ray.backbones")
register = backbones.register
