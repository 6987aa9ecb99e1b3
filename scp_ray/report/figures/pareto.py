"""The trade-off plane of a search: every configuration with its interval, the front, its knee."""

from __future__ import annotations

import itertools
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scp_ray.config.objectives import Objective
from scp_ray.report.search_result import SearchResult

FRONT, BARS, KNEE, OTHER, BEFORE = "#0072B2", "#A6CEE8", "#D55E00", "#8C8C8C", "#000000"  # Okabe and Ito's, and a grey
MOST_PANELS = 3
MOST_NUMBERS = 20


def draw_pareto(result: SearchResult, caption: str) -> Figure:
    """A panel per pair of objectives (the first three pairs); of a single objective its value per configuration."""
    pairs = list(itertools.combinations(result.objectives, 2))[:MOST_PANELS]
    panels = max(1, len(pairs))
    figure = Figure(figsize=(1.2 + 3.9 * panels, 4.7), layout="constrained")
    grid = figure.subplots(1, panels, squeeze=False)[0]
    if not pairs:
        _panel(grid[0], result, None, result.objectives[0])
    for axes, (first, second) in zip(grid, pairs, strict=False):
        _panel(axes, result, first, second)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2 if panels == 1 else 5, fontsize=8, frameon=False)
    figure.supxlabel(textwrap.fill(caption, int(96 * (1.2 + 3.9 * panels) / 5.1)), fontsize=7, x=0.02, ha="left")
    return figure


def _panel(axes: Axes, result: SearchResult, first: Objective | None, second: Objective) -> None:
    """``first`` across and ``second`` up; without a first the configurations' numbers are across."""
    table = result.configurations
    others = table[~table["front"]]
    kept, broken = others[others["feasible"]], others[~others["feasible"]]
    _points(axes, kept, first, second, color=OTHER, marker="o", label="dominated", ms=4, alpha=0.75, elinewidth=0.6)
    _points(axes, broken, first, second, color=OTHER, marker="x", label="breaks a constraint", ms=5, elinewidth=0.0)
    if first is not None:
        _stair(axes, result, first, second)
    front = table[table["front"]]
    _points(axes, front, first, second, color=FRONT, marker="s", label="front", ms=5.5, ecolor=BARS, zorder=4)
    bent = table[table["knee"]]
    if len(bent):
        axes.plot(_across(bent, first), bent[second.metric], "D", color=KNEE, ms=8, mec="black", label="knee", zorder=5)
    before = result.before[second.metric]
    if first is None:
        axes.axhline(before, color=BEFORE, linewidth=0.8, linestyle="--", label="before pruning (round 0)", zorder=1)
    else:
        look: dict[str, Any] = {"color": BEFORE, "ms": 11, "label": "before pruning (round 0)", "zorder": 3}
        axes.plot([result.before[first.metric]], [before], "*", **look)
    if len(front) <= MOST_NUMBERS:
        rows = zip(_across(front, first), front[second.metric], front["number"], strict=True)
        falls = first is not None and first.sign == second.sign  # the front, from left to right
        for place, (x, y, number) in enumerate(sorted(rows)):
            aside = (6, 5) if place % 2 != falls else (6, -11)  # neighbours may nearly coincide: the upper one's above
            axes.annotate(f"{number:.0f}", (x, y), xytext=aside, textcoords="offset points", fontsize=8, zorder=6)
    axes.set_xlabel("configuration" if first is None else _title(first))
    axes.set_ylabel(_title(second))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=first is None))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.spines[["top", "right"]].set_visible(False)


def _points(axes: Axes, rows: pd.DataFrame, first: Objective | None, second: Objective, **look: Any) -> None:
    if len(rows):
        wide = None if first is None else rows[f"{first.metric}_high"] - rows[first.metric]
        high = rows[f"{second.metric}_high"] - rows[second.metric]
        axes.errorbar(_across(rows, first), rows[second.metric], xerr=wide, yerr=high, linestyle="", capsize=0, **look)


def _stair(axes: Axes, result: SearchResult, first: Objective, second: Objective) -> None:
    """What the configurations reach in this plane, as a stair: between two of them nothing has been seen."""
    rows = result.configurations[result.configurations["feasible"]]
    order = rows.sort_values(first.metric, ascending=first.direction == "min", kind="stable")
    best = (order[second.metric] * second.sign).cummin()
    steps = order[best < best.shift(fill_value=np.inf)]
    axes.step(steps[first.metric], steps[second.metric], where="post", color=FRONT, linewidth=1.2, zorder=4.5)


def _across(rows: pd.DataFrame, first: Objective | None) -> Any:
    return rows["number"] if first is None else rows[first.metric]


def _title(part: Objective) -> str:
    return f"{part.title} ({'higher' if part.direction == 'max' else 'lower'} is better)"
