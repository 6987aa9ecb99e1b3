"""Feature maps of one layer, by a hook that is always removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scp_ray.parts import Batch, Learner, PrunableLayer


def last_linear(module: nn.Module) -> tuple[str, nn.Linear]:
    """The classification head: the last linear layer in the order of registration, with its name."""
    return [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear)][-1]


def with_features(network: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and what the last linear layer was given, (N, d): the penultimate features, with gradient.

    Features of a network that works in bfloat16 are float32.
    """
    caught: list[Tensor] = []
    handle = last_linear(network)[1].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        logits = network(image)
    finally:
        handle.remove()
    return logits, _widened(caught[0])


def outputs_of(network: nn.Module, names: Sequence[str], image: Tensor) -> tuple[list[Tensor], Tensor]:
    """What the named modules put out on the way, in the order of ``names``, and the logits (N, K); with gradient.

    Of a network that works in bfloat16 they are float32.
    """
    caught: dict[str, Tensor] = {}

    def catcher(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def catch(_: nn.Module, inputs: Any, output: Tensor) -> None:
            caught[name] = output

        return catch

    handles = [network.get_submodule(name).register_forward_hook(catcher(name)) for name in names]
    try:
        logits = network(image)
    finally:
        for handle in handles:
            handle.remove()
    return [_widened(caught[name]) for name in names], logits


def _widened(maps: Tensor) -> Tensor:
    return maps.float() if maps.dtype == torch.bfloat16 else maps


class _Reached(Exception):
    """Raised by the hook: nothing after the layer needs to be computed."""


def layer_output(learner: Learner, layer: PrunableLayer, batch: Batch) -> Tensor:
    """(N, C, h, w): the convolution's output before norm and activation, without gradient.

    The learner's mode (train or eval) is the caller's business.
    """
    caught: list[Tensor] = []

    def catch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        caught.append(output)
        raise _Reached

    handle = learner.network.get_submodule(layer.name).register_forward_hook(catch)
    try:
        with torch.no_grad():
            learner(batch.image, batch.group)
    except _Reached:
        pass
    finally:
        handle.remove()
    if not caught:
        raise RuntimeError(f"layer {layer.name} was not reached by a forward pass of {type(learner).__name__}.")
    return caught[0]
