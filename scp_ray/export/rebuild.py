"""A learner from a description that fits into a JSON file, and an exported model loaded again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from scp_ray.backbones.base import Backbone, backbones
from scp_ray.config.parse import Faults, read_plugin
from scp_ray.config.trial import read_method
from scp_ray.errors import ConfigError, LedgerError
from scp_ray.export.compact import resize_
from scp_ray.export.model import Classifier, classifier_of
from scp_ray.methods.base import Method, all_needs
from scp_ray.modes import drawing_from
from scp_ray.parts import SPLITS, FairnessData, Learner, Network, Split
from scp_ray.registry import spec_of

if TYPE_CHECKING:
    from scp_ray.config import TrialConfig

CONFIG = "config.json"
FORMAT = 1


def architecture_of(config: TrialConfig, num_classes: int, groups: int) -> dict[str, Any]:
    """What decides the shape of a trial's learner. Its initial weights do not: they are all replaced."""
    return {
        "backbone": spec_of(replace(config.backbone, weights="none")),  # type: ignore[type-var]
        "method": spec_of(config.method),
        "image_size": config.dataset.image_size,
        "num_classes": num_classes,
        "groups": groups,
    }


def build(architecture: Mapping[str, Any]) -> Learner:
    """The learner of ``architecture_of``, untrained. Raises ConfigError for what this version does not know."""
    faults: Faults = []
    backbone = read_plugin(backbones, dict(architecture["backbone"]), "architecture.backbone", faults)
    method = read_method(dict(architecture["method"]), "architecture.method", faults)
    if backbone is None or method is None:
        raise ConfigError(faults)
    data, make = _outline_of_data(architecture), _maker(backbone, architecture)
    teachers: dict[str, Learner] = {}
    for needed in all_needs(method):
        teachers[needed.plugin_name] = _built(needed, make, data, teachers)
    return _built(method, make, data, teachers)


def load_exported(folder: str | Path) -> nn.Module:
    """The model that ``scp-ray export`` wrote into a folder as safetensors or torch-export, in eval mode on the CPU.

    It is called with images (N, 3, S, S), RGB in [0, 1], and gives logits (N, K); where config.json's ``inputs`` name
    a group, with that too, (N,) int64. Nothing is unpickled but by torch.export.load, which reads torch's own archive.

    Raises LedgerError where the folder holds no export that torch can load.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind, file = content["kind"], folder / content["file"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{folder} holds no exported model: {CONFIG} cannot be read ({error}).") from error
    if content.get("format") != FORMAT:
        raise LedgerError(f"{folder} is of format {content.get('format')}; this version of scp_ray reads {FORMAT}.")
    if kind == "safetensors":
        return load_weights(file, content)
    if kind == "torch-export":
        program: nn.Module = torch.export.load(file).module()
        return program
    raise LedgerError(f"{file} is {kind}: run it by onnxruntime; load_exported reads safetensors and torch-export.")


def load_weights(file: Path, content: Mapping[str, Any]) -> Classifier:
    """Of safetensors: the architecture, at the channel counts that are left, with its weights."""
    from safetensors.torch import load

    classifier = empty(content)
    classifier.learner.load_state_dict(load(file.read_bytes()))
    return classifier


def empty(content: Mapping[str, Any]) -> Classifier:
    """The architecture of a config.json."""
    learner = build(content["architecture"])
    for name, value in content["constants"].items():
        getattr(learner, name).fill_(value)
    classifier = classifier_of(learner, content["architecture"]["image_size"])
    resize_(classifier.learner, content["channels"])
    return classifier


def _built(
    method: Method, make: Callable[..., Network], data: FairnessData, teachers: Mapping[str, Learner]
) -> Learner:
    with drawing_from(0):
        return method.build(make, data, teachers)


def _maker(backbone: Backbone, architecture: Mapping[str, Any]) -> Callable[..., Network]:
    def make(outputs: int = int(architecture["num_classes"])) -> Network:
        return backbone.build(outputs, image_size=architecture["image_size"], seed=0)

    return make


def _outline_of_data(architecture: Mapping[str, Any]) -> FairnessData:
    """As much of a data set as a method looks at to build its learner: counts and the images' size."""
    size, groups = architecture["image_size"], torch.arange(architecture["groups"])
    split = Split(
        image=torch.zeros(len(groups), 3, size, size, dtype=torch.uint8),
        label=torch.zeros_like(groups),
        attributes=groups.view(-1, 1),
        id=tuple(map(str, groups.tolist())),
        unit=tuple(map(str, groups.tolist())),
    )
    names = tuple(str(index) for index in range(architecture["num_classes"]))
    return FairnessData("outline", names, ("group",), 0, dict.fromkeys(SPLITS, split))
