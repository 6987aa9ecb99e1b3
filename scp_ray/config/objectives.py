"""What a search is after, and within which bounds: numbers of the rounds table on validation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from scp_ray.config.parse import Faults, unknown_key
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.report import fairness_report

_BOUND = re.compile(r"(>=|<=)\s*(?:([-+0-9.e]+)(?:\s*\*\s*(base|vanilla))?|(base|vanilla))")
OBJECTIVES = "a mapping of val_ metrics to max or min, at least one, e.g. {val_f1: max, val_eodd: min}"
_BOUND_WORDS = "'>= 0.6', '<= base' or '>= 0.97 * vanilla' (>= or <=; base: its own round 0; vanilla: the same seed's)"


@cache
def known_metrics() -> dict[str, bool]:
    """The numbers on validation that every row of a trial has -> whether a row of a base model has them too."""
    report = fairness_report([0, 1], [0, 1], [0, 1], num_classes=2).as_row("val_")
    known = {name: True for name, value in report.items() if isinstance(value, float)}
    return known | {f"val_fate_{gap}_{base}": False for gap in GAPS for base in ("base", "vanilla")}


@dataclass(frozen=True)
class Objective:
    """A metric of the selected round, and whether more of it is better."""

    metric: str
    direction: Literal["max", "min"]

    @property
    def sign(self) -> float:
        """Times a value it is lower where that is better."""
        return -1.0 if self.direction == "max" else 1.0

    @property
    def title(self) -> str:
        """ "Eodd", "F1", "FATE of Eodd (vanilla)": what a reader calls it."""
        name = self.metric.removeprefix("val_")
        if found := re.fullmatch(r"fate_(\w+?)_(base|vanilla)", name):
            return f"FATE of {found[1].capitalize()} ({found[2]})"
        return name.replace("_", " ").capitalize() if name.startswith(("eo", "f1")) else name.replace("_", " ")


@dataclass(frozen=True)
class Constraint:
    """``metric sign factor * base``: a bound on a metric of the selected round; without ``base`` a plain number."""

    metric: str
    sign: Literal[">=", "<="]
    factor: float
    base: Literal["base", "vanilla"] | None = None

    @property
    def text(self) -> str:
        """ "val_f1 >= 0.97 * vanilla"."""
        return f"{self.metric} {self.sign} {self.factor:g}" + (f" * {self.base}" if self.base else "")

    def violation(self, value: float, reference: float) -> float:
        """By how much ``value`` misses the bound, in the metric's own unit; at most 0 where it is kept."""
        bound = self.factor * reference if self.base else self.factor
        return bound - value if self.sign == ">=" else value - bound


def read_objectives(data: Any, path: str, faults: Faults) -> list[Objective]:
    """``{metric: max|min, ...}``; faults are added to ``faults``."""
    if not isinstance(data, Mapping) or not data:
        faults.append(f"{path}: got {data!r}; allowed is {OBJECTIVES}.")
        return []
    found = []
    for metric, direction in data.items():
        _check_metric(metric, f"{path}.{metric}", faults)
        if direction not in ("max", "min"):
            faults.append(f"{path}.{metric}: got {direction!r}; allowed is 'max' or 'min'.")
            continue
        found.append(Objective(str(metric), direction))
    return found


def read_constraints(data: Any, path: str, faults: Faults) -> list[Constraint]:
    """``{metric: bound, ...}``; faults are added to ``faults``."""
    if not isinstance(data, Mapping):
        faults.append(f"{path}: got {data!r}; allowed is a mapping of val_ metrics to bounds such as {_BOUND_WORDS}.")
        return []
    found = []
    for metric, bound in data.items():
        where = f"{path}.{metric}"
        _check_metric(metric, where, faults)
        match = _BOUND.fullmatch(bound.strip()) if isinstance(bound, str) else None
        try:
            factor = float(match[2] or 1) if match else float("nan")
        except ValueError:
            match = None
        if match is None:
            faults.append(f"{where}: got {bound!r}; allowed are bounds such as {_BOUND_WORDS}.")
            continue
        base = match[3] or match[4]
        if base == "vanilla" and known_metrics().get(str(metric)) is False:
            faults.append(f"{where}: got {bound!r}; the vanilla base model has no FATE. Give a plain number.")
        found.append(Constraint(str(metric), match[1], factor, base))  # type: ignore[arg-type]
    return found


def _check_metric(metric: Any, path: str, faults: Faults) -> None:
    if str(metric).startswith("test_"):
        faults.append(f"{path}: the test split is never searched. Name a metric of validation: val_{metric[5:]}.")
    elif metric not in known_metrics():
        faults.append(unknown_key(path, metric, known_metrics()))
