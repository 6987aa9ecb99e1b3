"""The axes of a sweep: which settings its arms differ in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scp_ray.report.arms import value_at
from scp_ray.report.figures.words import listed, value_text
from scp_ray.report.objectives import search_block
from scp_ray.report.recorded import Recorded

ABSENT = "-"
LENGTHS = ("rounds", "select")  # how long a trial goes on and which round speaks for it: often a method's own


@dataclass(frozen=True)
class Axis:
    """A setting with the values that it takes, as texts: numbers by size, others as they come."""

    path: str  # below trial
    values: tuple[str, ...]


def axes_of(sweep: Recorded, *, following: bool = False) -> list[Axis]:
    """Every setting that takes more than one value among the arms, in the space's order.

    Of arms that are listed one by one, ``rounds`` and ``select`` that follow from another setting tell nothing new:
    they are left out unless ``following`` asks for them.
    """
    table = settings_table(sweep)
    raw = {path: [value_at(arm, path) for arm in sweep.definition["arms"]] for path in table.columns}
    axes = [Axis(str(path), _ordered(raw[path], list(table[path]))) for path in table.columns]
    axes = [axis for axis in axes if len(axis.values) > 1]
    if following or search_block(sweep.definition):
        return axes
    for path in reversed(LENGTHS):
        others = [axis.path for axis in axes if axis.path != path]
        if any((table.groupby(other)[path].nunique() == 1).all() for other in others if path in table):
            axes = [axis for axis in axes if axis.path != path]
    return axes


def settings_table(sweep: Recorded) -> pd.DataFrame:
    """A row per arm (its label is the index) and a column per setting, as texts; an arm without it shows what it has.

    A setting that does not count for an arm, such as an option of another method, is ABSENT.
    """
    arms = sweep.definition["arms"]
    paths = list(dict.fromkeys(path for arm in arms for path in arm["settings"]))
    rows = {arm["label"]: [_text(value_at(arm, path)) for path in paths] for arm in arms}
    return pd.DataFrame.from_dict(rows, orient="index", columns=paths)


def short_names(sweep: Recorded, arms: Iterable[str]) -> tuple[dict[str, str], str]:
    """By arm what tells it from the others of these, and what they all share; whole labels where nothing does."""
    table = settings_table(sweep).loc[list(arms)]
    differs = [path for path in table.columns if table[path].nunique() > 1]
    shared = [path for path in table.columns if path not in differs]
    names = {str(arm): _written(row, differs) for arm, row in table.iterrows()}
    if len(set(names.values())) < len(names) or not differs:
        return {name: name for name in names}, ""
    return names, _written(table.iloc[0], shared)


def _written(row: pd.Series, paths: list[str]) -> str:
    return listed(f"{path}={row[path]}" for path in paths)


def _text(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"name"}:
        return str(value["name"])  # as in a configuration, where nothing but the name was set
    return ABSENT if value is None else value_text(value)


def _ordered(values: list[Any], texts: list[str]) -> tuple[str, ...]:
    pairs = dict(zip(texts, values, strict=True))
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in pairs.values()]
    return tuple(sorted(pairs, key=lambda text: pairs[text]) if all(numbers) else pairs)
