"""The ``search`` block of a space: what Optuna may vary, what it is after, and how often a point is repeated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge

from scp_ray.addresses import has_password
from scp_ray.config.dimensions import EXAMPLE, Dimension, read_dimensions
from scp_ray.config.objectives import OBJECTIVES, Constraint, Objective, read_constraints, read_objectives
from scp_ray.config.parse import Faults, Reader, Rule, read_fields, unknown_key
from scp_ray.errors import ConfigError

_SEEDS = Rule(
    lambda seeds: 0 < len(seeds) == len(set(seeds)), "a list of different seeds, each a whole number >= 0, at least one"
)


@dataclass(frozen=True)
class Replicates:
    """The seeds that a configuration is run with: the first ``start`` at once, the others as long as they race."""

    seeds: Annotated[list[Annotated[int, Ge(0)]], _SEEDS] = field(default_factory=lambda: [0])
    start: Annotated[int, Ge(1)] | None = None  # all of them unless given
    race: bool = False  # one more seed at a time, while the configuration may still belong to the front

    def __post_init__(self) -> None:
        if self.start is not None and self.start > len(self.seeds):
            raise ConfigError(
                f"start: got {self.start}; allowed are at most the {len(self.seeds)} seeds that there are."
            )
        if not self.race and self.start not in (None, len(self.seeds)):
            raise ConfigError(
                f"start: got {self.start} of {len(self.seeds)} seeds without race: true, so the others would never "
                "run. Set race: true, or leave start out."
            )

    @property
    def first(self) -> list[int]:
        """The seeds that every configuration is run with."""
        return self.seeds[: self.start]


@dataclass(frozen=True)
class Halving:
    """Early stopping: at round ``grace``, and at each ``reduction`` times as many, the best 1/``reduction`` go on."""

    grace: Annotated[int, Ge(1)] = 1  # rounds that every run has
    reduction: Annotated[int, Ge(2)] = 3

    def rungs(self, rounds: int) -> list[int]:
        """The rounds after which a run of so many may be stopped; none where there is nothing left to save."""
        found, rung = [], self.grace
        while rung < rounds:
            found.append(rung)
            rung *= self.reduction
        return found


@dataclass(frozen=True)
class SearchConfig:
    """A checked ``search`` block."""

    objectives: Annotated[list[Objective], Rule(bool, OBJECTIVES)]
    space: Annotated[list[Dimension], Rule(bool, f"a mapping of paths below trial, e.g. {EXAMPLE}")]
    sampler: Literal["tpe", "nsga2", "gp", "random", "qmc"] = "tpe"
    trials: Annotated[int, Ge(1)] = 60  # configurations; those that are run before count
    constraints: list[Constraint] = field(default_factory=list)
    warm_start: list[dict[str, Any]] = field(default_factory=list)  # points that are run first
    replicates: Replicates = field(default_factory=Replicates)
    asha: Halving | None = None  # no run is stopped early unless given
    storage: str | None = None  # an Optuna URL or "$NAME"; a file of the sweep's own unless given
    seed: Annotated[int, Ge(0)] = 0  # of the sampler

    def __post_init__(self) -> None:
        if self.asha and len(self.objectives) != 1:
            raise ConfigError(
                f"asha: got {len(self.objectives)} objectives; runs are ranked by one. Give one, such as "
                "{val_fate_eodd_vanilla: max}, with a constraint for the other, or leave asha out."
            )
        if self.asha and self.replicates.race:
            raise ConfigError(
                "asha: does not go with replicates.race: a seed that is stopped early would end a configuration whose "
                "other seeds are whole. Choose one of them."
            )

    @classmethod
    def read(cls, data: Any, path: str, faults: Faults) -> SearchConfig | None:
        """From plain data; faults are added to ``faults``, and then the result is None."""
        before = len(faults)
        readers: dict[str, Reader] = {
            "space": read_dimensions,
            "objectives": read_objectives,
            "constraints": read_constraints,
            "warm_start": _read_points,
            "storage": _read_storage,
            "asha": partial(read_fields, Halving),
        }
        config = read_fields(cls, data, path, faults, readers)
        if config is None or len(faults) > before:
            return None
        for at, point in enumerate(config.warm_start):
            _check_point(config.space, point, f"{path}.warm_start[{at}]", faults)
        return config if len(faults) == before else None

    @property
    def storage_url(self) -> str | None:
        """``storage`` with its environment variables filled in. Raises ConfigError where one is not set."""
        if self.storage is None:
            return None
        url = os.path.expandvars(self.storage)
        if "$" in url:
            raise ConfigError(f"search.storage: {self.storage} names an environment variable that is not set.")
        return url

    def active(self, settings: Mapping[str, Any]) -> list[Dimension]:
        """The dimensions that count at a point, parents first."""
        return [dimension for dimension in self.space if dimension.active(settings)]

    def start_points(self) -> list[dict[str, Any]]:
        """The points to warm up with; the middle of the space where none are given."""
        return [dict(point) for point in self.warm_start] or [self._filled({})]

    def probes(self) -> list[tuple[str, dict[str, Any]]]:
        """Points that try both ends of every range and each choice, the rest as at the first start point."""
        anchor = self.start_points()[0]
        made = []
        for dimension in self.space:
            around = dict(anchor)
            if dimension.parent:
                parent = next(other for other in self.space if other.key == dimension.parent)
                around[parent.key] = next(each for each in parent.choices if dimension.fits(each))
            for value in dimension.probes():
                made.append((dimension.key, self._filled(around | {dimension.key: value})))
        return made

    def _filled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """``given`` where it counts, the middle of each range and the first choice for the rest."""
        settings: dict[str, Any] = {}
        for dimension in self.space:
            if dimension.active(settings):
                settings[dimension.key] = given.get(dimension.key, dimension.middle())
        return settings


def _read_storage(data: Any, path: str, faults: Faults) -> str | None:
    """A URL without a password; what came is not repeated, since it may hold one."""
    if data is not None and not isinstance(data, str):
        faults.append(f"{path}: got {type(data).__name__}; allowed is an Optuna URL or $NAME, as text.")
    elif data is not None and has_password(data):
        faults.append(
            f"{path}: a password would be written into sweep.json. Put the URL into an environment variable and "
            "write storage: $NAME."
        )
    else:
        return data
    return None


def _read_points(data: Any, path: str, faults: Faults) -> list[dict[str, Any]]:
    if not isinstance(data, list) or not all(isinstance(point, dict) for point in data):
        faults.append(f"{path}: got {data!r}; allowed is a list of mappings of the space's keys to values.")
        return []
    return data


def _check_point(space: list[Dimension], point: Mapping[str, Any], path: str, faults: Faults) -> None:
    known = {dimension.key: dimension for dimension in space}
    faults += [unknown_key(f"{path}.{key}", key, known) for key in point if key not in known]
    for dimension in space:
        if not dimension.active(point):
            if dimension.key in point:
                faults.append(f"{path}.{dimension.key}: counts only where {dimension.parent} is {dimension.plugin}.")
        elif dimension.key not in point:
            faults.append(f"{path}.{dimension.key}: missing; a start point names a value for each key that counts.")
        elif not dimension.holds(point[dimension.key]):
            faults.append(f"{path}.{dimension.key}: got {point[dimension.key]!r}; allowed is {dimension.words()}.")
