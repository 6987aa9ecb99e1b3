"""A sweep: one trial, the axes it is varied along, the seeds that replicate it, and what it may use."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from scp_ray.backbones.base import backbones
from scp_ray.backbones.layers import find_layer
from scp_ray.config.dimensions import short
from scp_ray.config.identity import ResolvedTrial, outline, resolve
from scp_ray.config.parse import Faults, Rule, read_fields, read_plugin
from scp_ray.config.search import SearchConfig
from scp_ray.config.trial import TrialConfig
from scp_ray.config.yaml import set_path
from scp_ray.data.base import DataSet, datasets
from scp_ray.errors import ConfigError, ScpError

Raw = dict[str, Any]
_NAME = Rule(
    lambda name: bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name)),
    "text that can name a folder: letters, digits, '.', '_' and '-', a letter or digit first, at most 100",
)
_SEEDS = Rule(
    lambda seeds: 0 < len(seeds) == len(set(seeds)), "a list of different seeds, each a whole number >= 0, at least one"
)
_SHARE = Rule(
    lambda gpus: gpus == "auto" or gpus <= 1 or gpus == int(gpus), "'auto' or a number >= 0, above 1 only whole numbers"
)
_GPUS = Rule(lambda gpus: gpus >= 0 and (gpus <= 1 or gpus == int(gpus)), "a number >= 0, above 1 only whole numbers")

_NOT_WITH_SEARCH = {
    "grid": "give its axes as choices in search.space",
    "arms": "name them as points in search.warm_start",
    "seeds": "give them in search.replicates.seeds",
}


@dataclass(frozen=True)
class NodeType:
    """A kind of node that an autoscaler may start."""

    cpus: Annotated[float, Gt(0)]
    max: Annotated[int, Ge(1)]  # so many of them at once, those included that run already
    gpus: Annotated[int, Ge(0)] = 0
    name: str = "worker"


@dataclass(frozen=True)
class Resources:
    """What one trial may use. None of it changes a trial's identity."""

    gpus_per_trial: Annotated[Literal["auto"] | Annotated[float, Ge(0)], _SHARE] = "auto"
    cpus_per_trial: Annotated[int, Ge(1)] = 4
    threads_per_trial: Annotated[int, Ge(1)] | None = None  # torch threads; as many as CPUs unless given
    scorers: Annotated[int, Ge(0)] = 0  # actors that score a trial's batches, one CPU each
    gpus_per_scorer: Annotated[float, _GPUS] = 0.0
    node_types: list[NodeType] = field(default_factory=list)  # what may start beside the nodes that are there
    device: Literal["auto", "cpu", "cuda"] = "auto"

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

    name: Annotated[str, _NAME]
    trial: dict[str, Any]  # as written: arms are made by overriding paths in it
    grid: dict[str, list[Any]] = field(default_factory=dict)
    arms: list[dict[str, Any]] = field(default_factory=list)  # what no product of axes gives: overrides, with a label
    seeds: Annotated[list[Annotated[int, Ge(0)]], _SEEDS] = field(default_factory=lambda: [0])
    resources: Resources = field(default_factory=Resources)
    checkpoint_minutes: Annotated[float, Gt(0)] = 10
    keep_models: Literal["selected", "front", "none"] = "front"
    search: SearchConfig | None = None  # instead of grid and arms; its replicates are then the seeds

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SweepConfig:
        """From plain data, with every arm read once. Raises ConfigError with all faults."""
        faults: Faults = []
        readers = {"trial": _mapping, "grid": _mapping_of_lists, "arms": _arms, "search": SearchConfig.read}
        config = read_fields(cls, data, "", faults, readers)
        if "search" in data:
            faults += [
                f"{key}: does not go with search; {instead}."
                for key, instead in _NOT_WITH_SEARCH.items()
                if key in data
            ]
        trial, grid = data.get("trial"), _mapping_of_lists(data.get("grid", {}), "grid", [])
        if isinstance(trial, dict):
            if "search" in data:
                search = SearchConfig.read(data["search"], "search", [])
                combinations = _points(trial, search, faults) if search else []
            else:
                combinations = _combinations(trial, grid, _arms(data.get("arms", []), "arms", []), faults)
            raws = [raw for *_, raw in combinations]
            for raw in raws:
                _read_trial(raw, faults)
            if faults:  # what lies deeper (tables, layers) is told along with it, for what can be read
                for raw in raws:
                    _check_deeper(raw, faults)
        if config is None or faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return replace(config, seeds=config.search.replicates.seeds) if config.search else config

    def data_sets(self) -> list[DataSet]:
        """Every data set that an arm names, once; a search has one."""
        if self.search:
            raws = [self.trial.get("dataset")]
        else:
            raws = [raw.get("dataset") for *_, raw in _combinations(self.trial, self.grid, self.arms, [])]
        found = [read_plugin(datasets, raw, "trial.dataset", []) for raw in raws]
        return list(dict.fromkeys(data_set for data_set in found if data_set is not None))

    def resolved_arms(self) -> list[Arm]:
        """Every arm with its trials resolved: tables read, layers found, ids made.

        Of a search these are the arms of its start points, with the seeds that each begins with, once both ends of
        every range and each choice have been tried. Raises ConfigError with all faults of all arms.
        """
        faults: Faults = []
        if self.search:
            for label, settings, raw in _points(self.trial, self.search, faults):
                self._arm(label, settings, raw, self.search.replicates.first, faults)
            points = [_point(self.trial, self.search, point, faults) for point in self.search.start_points()]
            seeds = self.search.replicates.first
        else:
            points, seeds = _combinations(self.trial, self.grid, self.arms, faults), self.seeds
        arms = [self._arm(label, settings, raw, seeds, faults) for label, settings, raw in points]
        if faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return [arm for arm in arms if arm is not None]

    def arm_at(self, settings: Mapping[str, Any], seeds: list[int]) -> Arm:
        """The arm at a point of the search. Raises ConfigError where the point makes no trial."""
        assert self.search is not None
        faults: Faults = []
        arm = self._arm(*_point(self.trial, self.search, settings, faults), seeds, faults)
        if arm is None or faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return arm

    def _arm(self, label: str, settings: dict[str, Any], raw: Raw, seeds: list[int], faults: Faults) -> Arm | None:
        before = len(faults)
        config = _read_trial(raw, faults)
        _check_deeper(raw, faults)
        if config is None or len(faults) > before:
            return None
        try:
            return Arm(label, settings, tuple(resolve(replace(config, seed=seed)) for seed in seeds))
        except ConfigError as error:
            faults += [f"trial.{fault}" for fault in error.faults]
        except ScpError as error:
            faults.append(f"trial: {error}")
        return None


def _points(trial: Raw, search: SearchConfig, faults: Faults) -> list[tuple[str, dict[str, Any], Raw]]:
    """Label, settings and raw trial of the points that are tried before anything starts."""
    probes = [*search.start_points(), *(settings for _, settings in search.probes())]
    return [_point(trial, search, settings, faults) for settings in probes]


def _point(
    trial: Raw, search: SearchConfig, settings: Mapping[str, Any], faults: Faults
) -> tuple[str, dict[str, Any], Raw]:
    raw = {"trial": copy.deepcopy(trial)}
    chosen = {dimension.key: settings[dimension.key] for dimension in search.active(settings)}
    try:
        for dimension in search.active(settings):
            set_path(raw, f"trial.{dimension.path}", settings[dimension.key])
    except ConfigError as error:
        faults.extend(error.faults)
    return arm_label(chosen), chosen, raw["trial"]


def _combinations(
    trial: Raw, grid: Mapping[str, list[Any]], arms: list[Raw], faults: Faults
) -> list[tuple[str, dict[str, Any], Raw]]:
    """Label, settings and raw trial of each arm: every listed one at every point of the grid."""
    made = []
    for listed, values in itertools.product(arms or [{}], itertools.product(*grid.values())):
        overrides = {path: value for path, value in listed.items() if path != "label"}
        axes = dict(zip(grid, values, strict=True))
        if both := [path for path in overrides if path in axes]:
            faults.append(f"grid.{both[0]}: an arm sets it too; leave it to one of the two.")
        raw = {"trial": copy.deepcopy(trial)}
        try:
            for path, value in (overrides | axes).items():
                set_path(raw, f"trial.{path}", copy.deepcopy(value))
        except ConfigError as error:
            faults.extend(error.faults)
        else:
            names = [listed.get("label") or arm_label(overrides)] if listed else []
            label = ", ".join([*names, *([arm_label(axes)] if axes or not names else [])])
            made.append((label, overrides | axes, raw["trial"]))
    return made


def _read_trial(raw: Raw, faults: Faults) -> TrialConfig | None:
    if "seed" in raw:
        faults.append("trial.seed: seeds stand at the top of the file (seeds: [0, 1, ...]), the same for every arm.")
        raw = {key: value for key, value in raw.items() if key != "seed"}
    return TrialConfig.read(raw, "trial", faults)


def _check_deeper(raw: Raw, faults: Faults) -> None:
    """Faults that need the tables or the network: each is looked for where its own parts can be read."""
    data_set = read_plugin(datasets, raw.get("dataset"), "", [])
    backbone = read_plugin(backbones, raw.get("backbone"), "", [])
    if data_set is not None:
        _note(lambda: data_set.rows(), "trial.dataset", faults)
    layer = raw.get("layer", -1)
    if data_set is not None and backbone is not None and isinstance(layer, int | str):
        size = data_set.image_size
        _note(lambda: find_layer(outline(backbone, size).layers, layer), "trial.layer", faults)


def _note(check: Any, path: str, faults: Faults) -> None:
    try:
        check()
    except ScpError as error:
        faults.append(f"{path}: {error}")


def arm_label(settings: Mapping[str, Any]) -> str:
    """ "pr_c=0.02, layer=-1"; a plug-in with options shows its name and them."""
    return ", ".join(f"{axis}={short(value)}" for axis, value in settings.items()) or "all"


def _mapping(value: Any, path: str, faults: Faults) -> dict[str, Any]:
    if not isinstance(value, dict):
        faults.append(f"{path}: got {value!r}; allowed is a mapping of a trial's fields.")
        return {}
    return value


def _arms(value: Any, path: str, faults: Faults) -> list[Raw]:
    if not isinstance(value, list) or not all(isinstance(arm, dict) and {*arm} - {"label"} for arm in value):
        faults.append(f"{path}: got {value!r}; allowed is a list of mappings of paths below trial to values.")
        return []
    if wrong := [arm["label"] for arm in value if not isinstance(arm.get("label", ""), str)]:
        faults.append(f"{path}: got the label {wrong[0]!r}; allowed is text.")
        return []
    labels = [arm.get("label") or arm_label(arm) for arm in value]
    faults += [
        f"{path}: two arms are called {label!r}; give each a label of its own."
        for label in dict.fromkeys(labels)
        if labels.count(label) > 1
    ]
    return value


def _mapping_of_lists(value: Any, path: str, faults: Faults) -> dict[str, list[Any]]:
    if not isinstance(value, dict):
        faults.append(f"{path}: got {value!r}; allowed is a mapping of paths below trial to lists of values.")
        return {}
    axes = {}
    for axis, values in value.items():
        if isinstance(axis, str) and isinstance(values, list) and values:
            axes[axis] = values
        else:
            faults.append(f"{path}.{axis}: got {values!r}; an axis needs a list of at least one value.")
    return axes
