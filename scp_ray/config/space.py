"""A sweep: one trial, the axes it is varied along, the seeds that replicate it, and what it may use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from scp_ray.config.arms import Raw, arm_label, check_deeper, combinations, point_of, points_of, read_trial
from scp_ray.config.axes import axis_name
from scp_ray.config.identity import ResolvedTrial, named
from scp_ray.config.parse import Faults, Rule, read_fields, read_plugin
from scp_ray.config.search import SearchConfig
from scp_ray.config.trial import TrialConfig
from scp_ray.data.base import DataSet, datasets
from scp_ray.errors import ConfigError, ScpError

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

    def at_seed(self, seed: int) -> ResolvedTrial:
        """What its trial of any seed is, or would be."""
        return named(replace(self.trials[0].config, seed=seed))


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
                found = points_of(trial, search, faults) if search else []
                faults += _never_stopped(trial, search) if search else []
            else:
                found = combinations(trial, grid, _arms(data.get("arms", []), "arms", []), faults)
            read = [(raw, read_trial(raw, faults)) for *_, raw in found]
            if faults:  # what lies deeper (tables, layers) is told along with it, for what can be read
                for raw, each in read:
                    check_deeper(raw, each, faults)
        if config is None or faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return replace(config, seeds=config.search.replicates.seeds) if config.search else config

    def data_sets(self) -> list[DataSet]:
        """Every data set that an arm names, once; a search has one."""
        if self.search:
            raws = [self.trial.get("dataset")]
        else:
            raws = [raw.get("dataset") for *_, raw in combinations(self.trial, self.grid, self.arms, [])]
        found = [read_plugin(datasets, raw, "trial.dataset", []) for raw in raws]
        return list(dict.fromkeys(data_set for data_set in found if data_set is not None))

    def check(self) -> list[TrialConfig]:
        """Look at all that the arms name, but for the images: tables, weights, layers, and what does not go together.

        Returns the arms; of a search those at the ends of its ranges, and of each choice.

        Raises ConfigError with all faults of all arms.
        """
        faults: Faults = []
        if self.search:
            found = points_of(self.trial, self.search, faults)
        else:
            found = combinations(self.trial, self.grid, self.arms, faults)
        configs = [read_trial(raw, faults) for *_, raw in found]
        for (*_, raw), config in zip(found, configs, strict=True):
            check_deeper(raw, config, faults)
        if faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return [config for config in configs if config is not None]

    def resolved_arms(self) -> list[Arm]:
        """Every arm with its trials resolved: tables read, layers found, ids made.

        Of a search these are the arms of its start points, with the seeds that each begins with, once both ends of
        every range and each choice have been tried. Raises ConfigError with all faults of all arms.
        """
        faults: Faults = []
        if self.search:
            for label, settings, raw in points_of(self.trial, self.search, faults):
                self._arm(label, settings, raw, self.search.replicates.first, faults)
            points = [point_of(self.trial, self.search, point, faults) for point in self.search.start_points()]
            seeds = self.search.replicates.first
        else:
            points, seeds = combinations(self.trial, self.grid, self.arms, faults), self.seeds
        arms = [self._arm(label, settings, raw, seeds, faults) for label, settings, raw in points]
        if faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return [arm for arm in arms if arm is not None]

    def arm_at(self, settings: Mapping[str, Any], seeds: list[int]) -> Arm:
        """The arm at a point of the search. Raises ConfigError where the point makes no trial."""
        assert self.search is not None
        faults: Faults = []
        arm = self._arm(*point_of(self.trial, self.search, settings, faults), seeds, faults)
        if arm is None or faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        return arm

    def _arm(self, label: str, settings: dict[str, Any], raw: Raw, seeds: list[int], faults: Faults) -> Arm | None:
        before = len(faults)
        config = read_trial(raw, faults)
        check_deeper(raw, config, faults)
        if config is None or len(faults) > before:
            return None
        try:
            return Arm(label, settings, tuple(named(replace(config, seed=seed)) for seed in seeds))
        except ConfigError as error:
            faults += [f"trial.{fault}" for fault in error.faults]
        except ScpError as error:
            faults.append(f"trial: {error}")
        return None


def _never_stopped(trial: Mapping[str, Any], search: SearchConfig) -> Faults:
    """What is wrong with an early stop that would come after the last round."""
    rounds = trial.get("rounds", TrialConfig.rounds)
    if search.asha is None or not isinstance(rounds, int) or search.asha.rungs(rounds):
        return []
    return [
        f"search.asha.grace: got {search.asha.grace} with rounds: {rounds}, so no run could be stopped before its end. "
        "Give a grace below rounds, or leave asha out."
    ]


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
    arms: list[Raw] = [
        {key if key == "label" else axis_name(str(key), f"{path}[{at}]", faults): arm[key] for key in arm}
        for at, arm in enumerate(value)
    ]
    labels = [arm.get("label") or arm_label(arm) for arm in arms]
    faults += [
        f"{path}: two arms are called {label!r}; give each a label of its own."
        for label in dict.fromkeys(labels)
        if labels.count(label) > 1
    ]
    return arms


def _mapping_of_lists(value: Any, path: str, faults: Faults) -> dict[str, list[Any]]:
    if not isinstance(value, dict):
        faults.append(f"{path}: got {value!r}; allowed is a mapping of paths below trial to lists of values.")
        return {}
    axes = {}
    for axis, values in value.items():
        if isinstance(axis, str) and isinstance(values, list) and values:
            axes[axis_name(axis, path, faults)] = values
        else:
            faults.append(f"{path}.{axis}: got {values!r}; an axis needs a list of at least one value.")
    return axes
