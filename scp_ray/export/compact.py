"""Masked channels removed for good, where nothing else needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scp_ray.errors import ConfigError
from scp_ray.export.model import Classifier
from scp_ray.parts import PrunableLayer

INSTALL = "pip install 'scp_ray[export]'"
_COUNTS = ("out_channels", "in_channels", "groups", "num_features", "out_features", "in_features")
# norms over several channels: what is left would be normalised by other statistics
_BIASED = "a channel that keeps its bias (mask: released) gives a constant, which the next layer sees; it stays masked"
_JOINT_NORMS = (nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Shrunk:
    """What became of a layer's masked channels."""

    layer: str
    channels: int  # C before pruning
    masked: int  # whose weights are all 0
    removed: int
    reason: str = ""  # why not all of them


def compact_(classifier: Classifier, layers: Sequence[PrunableLayer], inputs: Sequence[Tensor]) -> list[Shrunk]:
    """Remove the masked channels of every layer that can spare them; a word on each layer that has any.

    A channel can go where every convolution and linear layer that writes to it writes zeros: torch-pruning's
    dependency graph says which these are. Where a shortcut adds other channels to it, it stays masked.

    Raises ConfigError where torch-pruning is not installed.
    """
    pruning = _torch_pruning()
    found = []
    for layer in layers:
        network = classifier.learner.network
        masked, silent = masked_channels(network, layer), silent_channels(network, layer)
        if not bool(masked.any()):
            continue
        reason = _BIASED if bool((masked & ~silent).any()) else ""
        kept = _remove_(pruning, classifier, layer, silent, inputs) if bool(silent.any()) else reason
        found.append(
            Shrunk(layer.name, layer.channels, int(masked.sum()), 0 if kept else int(silent.sum()), kept or reason)
        )
    return found


def masked_channels(network: nn.Module, layer: PrunableLayer) -> Tensor:
    """(C,) bool: the channels whose weights are all 0."""
    weight: Tensor = network.get_submodule(layer.name).weight  # type: ignore[assignment]
    return (weight == 0).flatten(1).all(1)


def silent_channels(network: nn.Module, layer: PrunableLayer) -> Tensor:
    """(C,) bool: the channels whose weights are 0 and that end in 0 too, behind their norms or for want of a bias."""
    conv = network.get_submodule(layer.name)
    silent = masked_channels(network, layer)
    norms = [network.get_submodule(name) for name in layer.norms]
    affine = [norm for norm in norms if getattr(norm, "weight", None) is not None]
    ends = affine or [conv, *(network.get_submodule(name) for name in layer.followers)]
    for part in ends:
        silent = silent & _zero_rows(part, "bias") & (_zero_rows(part, "weight") if affine else True)
    return silent


def counts_of(model: nn.Module) -> dict[str, dict[str, int]]:
    """The channel counts of every convolution, norm and linear layer, by name."""
    return {
        name: {count: int(getattr(part, count)) for count in _COUNTS if isinstance(getattr(part, count, None), int)}
        for name, part in model.named_modules()
        if isinstance(part, nn.Conv2d | nn.Linear | _BatchNorm)
    }


def resize_(model: nn.Module, counts: dict[str, dict[str, int]]) -> None:
    """Give layers other channel counts, their weights empty: before those of a smaller model are loaded."""
    for name, numbers in counts.items():
        part = model.get_submodule(name)
        for count, value in numbers.items():
            setattr(part, count, value)
        for key, weight in part.named_parameters(recurse=False):
            setattr(part, key, nn.Parameter(_empty(part, key, weight), requires_grad=False))
        for key, running in part.named_buffers(recurse=False):
            if running.ndim:  # not the count of batches
                setattr(part, key, _empty(part, key, running))


def _empty(part: nn.Module, key: str, value: Tensor) -> Tensor:
    if isinstance(part, nn.Conv2d):
        inner = (part.in_channels // part.groups, *part.kernel_size)
        shape: tuple[int, ...] = (part.out_channels, *inner) if key == "weight" else (part.out_channels,)
    elif isinstance(part, nn.Linear):
        shape = (part.out_features, part.in_features) if key == "weight" else (part.out_features,)
    else:
        shape = (int(part.num_features),)  # type: ignore[arg-type]
    return torch.empty(shape, dtype=value.dtype)


def _zero_rows(part: nn.Module, name: str) -> Tensor | bool:
    """(C,) bool, or True where there is no such parameter."""
    value = getattr(part, name, None)
    return True if value is None else (value == 0).flatten(1).all(1) if value.ndim > 1 else value == 0


def _remove_(
    pruning: Any, classifier: Classifier, layer: PrunableLayer, silent: Tensor, inputs: Sequence[Tensor]
) -> str:
    """Why the channels cannot go; empty where they have gone."""
    conv = classifier.learner.network.get_submodule(layer.name)
    classifier.requires_grad_(True)  # the graph is read from what autograd records
    try:
        graph = pruning.DependencyGraph().build_dependency(classifier, example_inputs=tuple(inputs), verbose=False)
        channels = silent.nonzero().flatten().tolist()
        group = graph.get_pruning_group(conv, pruning.prune_conv_out_channels, idxs=channels)
        if reason := _why_not(pruning, classifier, conv, group):
            return reason
        group.prune()
        return ""
    finally:
        classifier.requires_grad_(False)


def _why_not(pruning: Any, classifier: Classifier, conv: nn.Module, group: Any) -> str:
    names = {part: name.removeprefix("learner.network.") for name, part in classifier.named_modules()}
    writers = {pruning.prune_conv_out_channels, pruning.prune_linear_out_channels}
    others = []
    for dependency, channels in group:
        part = dependency.target.module
        if isinstance(part, _JOINT_NORMS):
            return f"{names.get(part, 'a norm')} normalises over several channels at once; the channels stay masked"
        if part is conv or dependency.handler not in writers or part not in names:
            continue
        zero = _zero_rows(part, "weight")
        assert isinstance(zero, Tensor)
        if not bool(zero[list(channels)].all()):
            others.append(names[part])
    if others:
        return f"coupled with {', '.join(dict.fromkeys(others))}, which write to the same channels; they stay masked"
    return ""


def _torch_pruning() -> Any:
    try:
        import torch_pruning  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError(f"--compact needs torch-pruning, which is not installed: {INSTALL}") from error
    return torch_pruning
