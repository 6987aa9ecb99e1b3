"""The prunable layers of a network, found by running it once; and a layer by index or name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from scp_ray.errors import BackboneError, UnknownNameError
from scp_ray.modes import evaluating
from scp_ray.parts import PrunableLayer

CHANNEL_NORMS = (_BatchNorm, _InstanceNorm)


def trace_layers(module: nn.Module, image: Tensor, *, ignored: Sequence[str] = ()) -> tuple[PrunableLayer, ...]:
    """Ordinary (ungrouped) convolutions in the order of a forward pass, with the norm each one feeds.

    Args:
        module: any network with convolutions.
        image: (1, 3, S, S) on the module's device.
        ignored: convolutions whose name contains one of these are left out.

    Raises BackboneError where there is none, or where the image is too small for the network.
    """
    outputs: dict[str, tuple[Tensor, int]] = {}  # of each convolution, with its version when it was made
    fed: dict[str, list[str | None]] = {}  # what each norm was called on, call by call

    def note(name: str) -> Any:
        def hook(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(part, nn.Conv2d):
                outputs.setdefault(name, (output, output._version))
                return
            # a tensor that was changed in place (+= a shortcut) is no longer the convolution's own
            own = [c for c, (made, version) in outputs.items() if made is inputs[0] and made._version == version]
            fed.setdefault(name, []).append(own[0] if own else None)

        return hook

    watched = [(n, m) for n, m in module.named_modules() if isinstance(m, (nn.Conv2d, *CHANNEL_NORMS))]
    handles = [part.register_forward_hook(note(name)) for name, part in watched]
    try:
        with evaluating(module), torch.no_grad():
            module(image)
    except RuntimeError as error:
        raise BackboneError(
            f"{type(module).__name__} cannot take images of {image.shape[-1]} px: {error}. Use a larger image_size."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    parts = dict(watched)
    names = [n for n in outputs if parts[n].groups == 1 and not any(word in n for word in ignored)]
    if not names:
        raise BackboneError(f"{type(module).__name__} has no ordinary convolution, so it has no channels to prune.")
    return tuple(
        PrunableLayer(index, name, parts[name].out_channels, tuple(norm for norm in fed if fed[norm] == [name]))
        for index, name in enumerate(names, start=1)
    )


def find_layer(layers: Sequence[PrunableLayer], wanted: int | str) -> PrunableLayer:
    """A layer by 1..L, by -L..-1 from the end, or by module name.

    Raises UnknownNameError listing all layers.
    """
    count = len(layers)
    if isinstance(wanted, int) and 1 <= abs(wanted) <= count:
        return layers[wanted - 1 if wanted > 0 else wanted]
    for layer in layers:
        if layer.name == wanted:
            return layer
    listed = [f"{layer.index} ({layer.name}, {layer.channels} channels)" for layer in layers]
    raise UnknownNameError(f"layer (1..{count}, -{count}..-1 or a name)", wanted, listed)
