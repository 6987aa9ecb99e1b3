"""A sweep: one trial, the axes it is varied along, the seeds that replicate it, and what it may use."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from scp_ray.backbones.base import backbones
from scp_ray.backbones.layers import find_layer
from scp_ray.config.identity import ResolvedTrial, outline, resolve
from scp_ray.config.parse import Faults, read_fields, read_plugin
from scp_ray.config.trial import TrialConfig
from scp_ray.config.yaml import set_path
from scp_ray.data.base import datasets
from scp_ray.errors import ConfigError, ScpError


@dataclass(frozen=True)
class Resources:
    """What one trial may use. None of it changes a trial's identity."""

    gpus_per_trial: Literal["auto"] | Annotated[float, Ge(0)] = "auto"
    cpus_per_trial: Annotated[int, Ge(1)] = 4
    threads_per_trial: Annotated[int, Ge(1)] | None = None  # torch threads; as many as CPUs unless given
    scorers: Annotated[int, Ge(0), Le(0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        gpus = self.gpus_per_trial
        if gpus != "auto" and gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"gpus_per_trial: got {gpus:g}; above 1 only whole numbers are allowed.")

    @property
    def threads(self) -> int:
        """torch threads of a trial."""
        return self.threads_per_trial or self.cpus_per_trial


@dataclass(frozen=True)
class Arm:
    """One configuration with all its seeds."""

    label: str  # "pr_c=0.02, layer=-1"
    settings: dict[str, Any]  # the axes' values
    trials: tuple[ResolvedTrial, ...]  # one a seed, in the order of the seeds


@dataclass(frozen=True)
class SweepConfig:
    """A checked search space."""

    name: str
    trial: dict[str, Any]  # as written: arms are made by overriding paths in it
    grid: dict[str, list[Any]] = field(default_factory=dict)
    seeds: list[Annotated[int, Ge(0)]] = field(default_factory=lambda: [0])
    resources: Resources = field(default_factory=Resources)
    checkpoint_minutes: Annotated[float, Gt(0)] = 10
    keep_models: Literal["selected", "front", "none"] = "front"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise ConfigError(
                f"name: got {self.name!r}; it names a folder: letters, digits, '.', '_' and '-', at most 100."
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds: got {self.seeds}; allowed is a list of different seeds, at least one.")
        for axis, values in self.grid.items():
            if not values:
                raise ConfigError(f"grid.{axis}: got an empty list; an axis needs at least one value.")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SweepConfig:
        """From plain data, with every arm read once. Raises ConfigError with all faults."""
        faults: Faults = []
        config = read_fields(cls, data, "", faults, {"trial": _mapping, "grid": _mapping_of_lists})
        if config is not None:
            config._read_arms(faults)
        if config is None or faults:
            faults += _faults_below(data)
            raise ConfigError(list(dict.fromkeys(faults)))
        return config

    def arms(self) -> list[Arm]:
        """Every arm with its trials resolved: tables read, layers found, ids made.

        Raises ConfigError with all faults of all arms.
        """
        faults: Faults = []
        arms = []
        for settings, config in self._read_arms(faults):
            try:
                trials = tuple(resolve(replace(config, seed=seed)) for seed in self.seeds)
            except ConfigError as error:
                faults += [f"trial: {fault}" for fault in error.faults]
            except ScpError as error:
                faults.append(f"trial: {error}")
            else:
                arms.append(Arm(arm_label(settings), settings, trials))
        if faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return arms

    def _read_arms(self, faults: Faults) -> list[tuple[dict[str, Any], TrialConfig]]:
        arms = []
        for values in itertools.product(*self.grid.values()):
            settings = dict(zip(self.grid, values, strict=True))
            raw = {"trial": copy.deepcopy(self.trial)}
            try:
                for axis, value in settings.items():
                    set_path(raw, f"trial.{axis}", value)
            except ConfigError as error:
                faults.extend(error.faults)
                continue
            config = _read_trial(raw, faults)
            if config is not None:
                arms.append((settings, config))
        return arms


def _read_trial(raw: dict[str, Any], faults: Faults) -> TrialConfig | None:
    if "seed" in raw["trial"]:
        faults.append("trial.seed: seeds stand at the top of the file (seeds: [0, 1, ...]), the same for every arm.")
        return None
    return TrialConfig.read(raw["trial"], "trial", faults)


def _faults_below(data: Mapping[str, Any]) -> list[str]:
    """What else is wrong with a definition that cannot be read as a whole, so that all faults are told at once."""
    faults: Faults = []
    trial = data.get("trial")
    if not isinstance(trial, dict):
        return faults
    grid = data.get("grid")
    axes = grid if isinstance(grid, dict) else {}
    _read_trial({"trial": {axis: values[0] for axis, values in axes.items() if isinstance(values, list) and values
                           and "." not in axis} | trial}, faults)  # fmt: skip
    data_set = read_plugin(datasets, trial.get("dataset"), "trial.dataset", [])
    backbone = read_plugin(backbones, trial.get("backbone"), "trial.backbone", [])
    try:
        if data_set is not None:
            data_set.table()
            if backbone is not None:
                layers = outline(backbone, data_set).layers
                for wanted in (trial.get("layer", -1), *axes.get("layer", [])):
                    find_layer(layers, wanted)
    except ScpError as error:
        faults.append(f"trial: {error}")
    return faults


def arm_label(settings: Mapping[str, Any]) -> str:
    """ "pr_c=0.02, layer=-1"; a plug-in with options shows its name and them."""
    return ", ".join(f"{axis}={_short(value)}" for axis, value in settings.items()) or "all"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        options = ",".join(f"{key}={_short(inner)}" for key, inner in value.items() if key != "name")
        return f"{value.get('name', '')}({options})"
    return str(value)


def _mapping(value: Any, path: str, faults: Faults) -> dict[str, Any]:
    if not isinstance(value, dict):
        faults.append(f"{path}: got {value!r}; allowed is a mapping of a trial's fields.")
        return {}
    return value


def _mapping_of_lists(value: Any, path: str, faults: Faults) -> dict[str, list[Any]]:
    if not isinstance(value, dict) or not all(isinstance(axis, list) for axis in value.values()):
        faults.append(f"{path}: got {value!r}; allowed is a mapping of paths below trial to lists of values.")
        return {}
    return value
