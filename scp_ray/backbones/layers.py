"""The prunable layers of a network, found by running it once; and a layer by index or name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from scp_ray.backbones.chains import Chains
from scp_ray.errors import BackboneError, UnknownNameError
from scp_ray.modes import evaluating
from scp_ray.parts import PrunableLayer

CHANNEL_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


class Layers(tuple[PrunableLayer, ...]):
    """The layers of a network in forward order, with the reason for each convolution that is none."""

    refused: Mapping[str, str]

    def __new__(cls, layers: Iterable[PrunableLayer] = (), refused: Mapping[str, str] | None = None) -> Layers:
        """``refused`` by name of the convolution; each reason completes "layer NAME ..."."""
        made = super().__new__(cls, layers)
        made.refused = dict(refused or {})
        return made


def trace_layers(
    module: nn.Module,
    image: Tensor,
    *,
    ignored: Sequence[str] = (),
    came: str = "",
    advice: str = "Use a larger image_size.",
) -> Layers:
    """Ordinary (ungrouped) convolutions on feature maps, in the order of a forward pass, with what each alone feeds.

    Norms and depthwise convolutions belong to a layer where all that they are called on comes from its channels,
    each on its own: see ``Chains`` for what may lie in between.

    Args:
        module: any network with convolutions.
        image: (1, 3, S, S) on the module's device.
        ignored: convolutions whose name contains one of these are shortcuts, which do not count.
        came: what the image is, for messages; its size in pixels unless given.
        advice: what to do where the network cannot take it.

    Raises BackboneError where there is none, or where the network cannot take the image: too small, or of other
    channels or another type.
    """
    watched = {n: m for n, m in module.named_modules() if isinstance(m, (nn.Conv2d, *CHANNEL_NORMS))}
    convs = {name: part for name, part in watched.items() if isinstance(part, nn.Conv2d)}
    try:
        fed, gates = _feeders(module, image, watched)
    except RuntimeError as error:
        came = came or f"{image.shape[-1]} px"
        raise BackboneError(f"{type(module).__name__} cannot take images of {came}: {error}. {advice}") from error
    reasons = {name: _why_not(name, conv, fed, gates, ignored) for name, conv in convs.items()}
    names = [name for name in fed if reasons.get(name) == ""]
    if not names:
        raise BackboneError(f"{type(module).__name__} has no ordinary convolution, so it has no channels to prune.")
    layers = []
    for index, name in enumerate(names, start=1):
        own = [other for other in fed if fed[other] == {name}]
        norms, followers = [n for n in own if n not in convs], [n for n in own if n in convs]
        layers.append(PrunableLayer(index, name, convs[name].out_channels, tuple(norms), tuple(followers)))
    return Layers(layers, {name: reason for name, reason in reasons.items() if reason})


def _feeders(
    module: nn.Module, image: Tensor, watched: Mapping[str, nn.Module]
) -> tuple[dict[str, set[str | None]], set[str]]:
    """By name, in forward order: whose channels each part was called on. And which were on pooled values."""
    chains = Chains()
    fed: dict[str, set[str | None]] = {}
    gates: set[str] = set()

    def note(name: str) -> Any:
        def hook(part: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> None:
            given = (*inputs, *keywords.values())[0]
            dim = _channel_dim(part, given)
            owner = None if dim is None else chains.owner(given, dim)
            if chains.is_pooled(given):
                gates.add(name)
                chains.mark_pooled(output)
            if isinstance(part, nn.Conv2d) and not _is_depthwise(part):
                owner = name
                fed.setdefault(name, set())
            else:
                fed.setdefault(name, set()).add(owner)
            if owner is not None and dim is not None:
                chains.claim(output, owner, dim)

        return hook

    handles = [part.register_forward_hook(note(name), with_kwargs=True) for name, part in watched.items()]
    try:
        with evaluating(module), torch.no_grad(), chains:
            module(image)
    finally:
        for handle in handles:
            handle.remove()
    return fed, gates


def _is_depthwise(part: nn.Module) -> bool:
    return isinstance(part, nn.Conv2d) and 1 < part.groups == part.in_channels == part.out_channels


def _channel_dim(part: nn.Module, given: Tensor) -> int | None:
    """Which dimension the part takes for channels; None for a layer norm over more than channels."""
    if not isinstance(part, nn.LayerNorm):
        return 1
    if len(part.normalized_shape) != 1:
        return None
    # a subclass with a forward of its own (torchvision's LayerNorm2d) takes maps (N, C, H, W)
    return given.ndim - 1 if type(part).forward is nn.LayerNorm.forward else 1


def _why_not(
    name: str, conv: nn.Conv2d, fed: Mapping[str, set[str | None]], gates: set[str], ignored: Sequence[str]
) -> str:
    """Why a convolution is no layer; empty where it is one."""
    if name not in fed:
        return "is not reached by a forward pass, so pruning it would change nothing"
    if any(word in name for word in ignored):
        return "is on a shortcut, and those do not count as layers"
    if name in gates:
        return "works on globally pooled values (a squeeze-and-excitation gate): it makes no feature maps"
    if _is_depthwise(conv):
        owner = next(iter(fed[name])) if len(fed[name]) == 1 else None
        source = (
            f"it goes with {owner}" if owner else "its channels come from several convolutions, so it goes with none"
        )
        return f"is a depthwise convolution: {source}"
    if conv.groups > 1:
        return f"is a grouped convolution ({conv.groups} groups), and only ordinary ones count as layers"
    return ""


def find_layer(layers: Sequence[PrunableLayer], wanted: int | str) -> PrunableLayer:
    """A layer by 1..L, by -L..-1 from the end, or by module name.

    Raises BackboneError with the reason for a convolution that is no layer, UnknownNameError for what is none of
    the network's convolutions. Both list all layers.
    """
    count = len(layers)
    if isinstance(wanted, int) and 1 <= abs(wanted) <= count:
        return layers[wanted - 1 if wanted > 0 else wanted]
    for layer in layers:
        if layer.name == wanted:
            return layer
    listed = [f"{layer.index} ({layer.name}, {layer.channels} channels)" for layer in layers]
    if isinstance(layers, Layers) and isinstance(wanted, str) and wanted in layers.refused:
        raise BackboneError(f"layer {wanted} {layers.refused[wanted]}. Layers: {', '.join(listed)}.")
    raise UnknownNameError(f"layer (1..{count}, -{count}..-1 or a name)", wanted, listed)
