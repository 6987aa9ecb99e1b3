"""The axes of a search: ranges and choices for fields of a trial, some of them only where another one has a value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scp_ray.config.axes import axis_name
from scp_ray.config.parse import Faults

KINDS = "{float: [low, high]}, {float: [low, high, log]}, {int: [low, high]} or {choice: [a, b, ...]}"
EXAMPLE = "{pr_c: {float: [0.01, 0.1]}, layer: {choice: [-1, -2]}}"
# what would make trials incomparable, or takes its data apart
FIXED = ("dataset", "seed", "select", "rounds", "stop")
DIGITS = 4  # significant ones of a searched number: what is told, stored and run is the same, and can be read
_CONDITION = re.compile(r"([\w.-]+)\[([\w-]+)\]\.([\w.-]+)")


@dataclass(frozen=True)
class Dimension:
    """One searched field; ``key`` is as written: ``pr_c``, or ``method[mfd].sigma``, which counts under mfd alone."""

    key: str
    kind: Literal["float", "int", "choice"]
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Any, ...] = ()
    parent: str = ""  # method
    plugin: str = ""  # mfd

    @property
    def path(self) -> str:
        """The field below trial that it sets: method.sigma."""
        match = _CONDITION.fullmatch(self.key)
        return f"{match[1]}.{match[3]}" if match else self.key

    def active(self, settings: Mapping[str, Any]) -> bool:
        """Whether it counts at a point."""
        return not self.parent or (self.parent in settings and self.fits(settings[self.parent]))

    def fits(self, value: Any) -> bool:
        """Whether the parent's value is the one that it counts under."""
        return plugin_name(value) == self.plugin

    def labels(self) -> tuple[Any, ...]:
        """Its choices as plain values: a plug-in with options or of two methods as text."""
        return tuple(each if _is_plain(each) else short(each) for each in self.choices)

    def middle(self) -> Any:
        """The middle of its range, the first of its choices."""
        if self.kind == "choice":
            return self.choices[0]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return self.rounded(middle)

    def probes(self) -> list[Any]:
        """Both ends, or every choice."""
        if self.kind == "choice":
            return list(self.choices)
        return [int(self.low), int(self.high)] if self.kind == "int" else [float(self.low), float(self.high)]

    def rounded(self, value: float) -> Any:
        """A number as it is run: whole, or of four significant digits; never out of its range."""
        if self.kind == "int":
            return int(min(max(round(value), self.low), self.high))
        return float(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))

    def holds(self, value: Any) -> bool:
        """Whether it is one of its values."""
        if self.kind == "choice":
            return any(type(value) is type(each) and value == each for each in self.choices)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        whole = self.kind == "float" or isinstance(value, int)
        return number and whole and self.low <= value <= self.high

    def words(self) -> str:
        """What is allowed."""
        if self.kind == "choice":
            return "one of " + ", ".join(repr(each) for each in self.choices)
        return f"{'a whole number' if self.kind == 'int' else 'a number'} from {self.low:g} to {self.high:g}"


def plugin_name(value: Any) -> str:
    """The name of a plug-in given by name, by a mapping, or as a list of two."""
    if isinstance(value, Mapping):
        return str(value.get("name", ""))
    return "-".join(plugin_name(part) for part in value) if isinstance(value, list) else str(value)


def short(value: Any) -> str:
    """A value in a label: a plug-in with options shows its name and them."""
    if isinstance(value, list):
        return "-".join(short(part) for part in value)
    if isinstance(value, Mapping):
        options = ",".join(f"{key}={short(inner)}" for key, inner in value.items() if key != "name")
        return f"{value.get('name', '')}({options})"
    return str(value)


def read_dimensions(data: Any, path: str, faults: Faults) -> list[Dimension]:
    """The ``space`` of a search, parents before what depends on them."""
    if not isinstance(data, Mapping) or not data:
        faults.append(
            f"{path}: got {data!r}; allowed is a mapping of paths below trial, each to {KINDS}, e.g. {EXAMPLE}."
        )
        return []
    read = [_read(str(key), value, f"{path}.{key}", faults) for key, value in data.items()]
    found = [dimension for dimension in read if dimension is not None]
    free = {dimension.key: dimension for dimension in found if not dimension.parent}
    for dimension in found:
        if dimension.parent and not any(
            dimension.fits(each) for each in getattr(free.get(dimension.parent), "choices", ())
        ):
            faults.append(
                f"{path}.{dimension.key}: {dimension.parent} has no choice {dimension.plugin!r} in this space; add it "
                f"there, or leave this out."
            )
    return [*free.values(), *(dimension for dimension in found if dimension.parent)]


def _read(key: str, data: Any, path: str, faults: Faults) -> Dimension | None:
    match = _CONDITION.fullmatch(key)
    if match is None and "[" in key:
        faults.append(f"{path}: a field of one choice is written as in method[mfd].sigma.")
        return None
    before = len(faults)
    key = axis_name(key, path.removesuffix(f".{key}"), faults)
    if len(faults) > before:
        return None
    if key.partition(".")[0] in FIXED:
        faults.append(f"{path}: cannot be searched: points would not compare. Not searched are {', '.join(FIXED)}.")
        return None
    parent, plugin = (str(match[1]), str(match[2])) if match else ("", "")
    if not isinstance(data, Mapping) or len(data) != 1 or not isinstance(next(iter(data.values())), list):
        faults.append(f"{path}: got {data!r}; allowed is {KINDS}.")
        return None
    ((kind, values),) = data.items()
    if kind == "choice":
        made = Dimension(key, "choice", choices=tuple(values), parent=parent, plugin=plugin)
        labels = [(type(label), label) for label in made.labels()]
        if not labels or len(labels) > len(set(labels)):
            faults.append(f"{path}: got {values!r}; allowed is a list of different choices, at least one.")
            return None
        return made
    numbers = [value for value in values[:2] if isinstance(value, int | float) and not isinstance(value, bool)]
    log = values[2:] == ["log"]
    sound = kind in ("float", "int") and len(numbers) == 2 and len(values) == (3 if log else 2)
    whole = kind != "int" or all(isinstance(number, int) for number in numbers)
    if not (sound and whole and all(map(math.isfinite, numbers)) and numbers[0] < numbers[1]):
        faults.append(f"{path}: got {data!r}; allowed is {KINDS}, with low < high.")
        return None
    if log and numbers[0] <= 0:
        faults.append(f"{path}: got {data!r}; on a log scale low has to be above 0.")
        return None
    return Dimension(key, kind, numbers[0], numbers[1], log, parent=parent, plugin=plugin)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
