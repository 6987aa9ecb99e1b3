"""FATE, F1 and Eodd over two settings of a sweep: a cell per pair of values, its number written in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scp_ray.report.figures.drawn import Drawn, NotDrawnError
from scp_ray.report.figures.rows import FATE, INTERVAL, seed_means, selected_rows
from scp_ray.report.figures.style import DOUBLE, GROUND, SINGLE, SMALL, is_dark, new_figure, styled
from scp_ray.report.figures.varying import Axis, axes_of, settings_table
from scp_ray.report.figures.words import FLOOR, cut, listed, sentences, told_of
from scp_ray.report.recorded import Recorded, Tracked, no_evidence, recorded

MOST_CELLS = 14  # a side
WITHIN = "\u2248"  # about equal: not to be told from the floor
PANELS = (
    ("fate", "FATE of Eodd", "PuOr"),  # about 0; the others from worse to better
    ("f1", "F1", "cividis"),
    ("eodd", "Eodd", "cividis_r"),
)


def heat_map(sweep: Recorded | Tracked, first: str | None = None, second: str | None = None) -> Drawn:
    """Over the settings ``first`` (down) and ``second`` (across), by default the two with the most values.

    What else varies is averaged, and the caption says so. Raises NotDrawnError where fewer than two settings vary, or
    one takes more values than cells can be read of.
    A sweep from MLflow alone has no noise floors, and intervals of the spread between seeds alone.
    """
    sweep = recorded(sweep)
    axes = axes_of(sweep)
    if first is None or second is None:
        fitting = [axis for axis in axes if len(axis.values) <= MOST_CELLS]
        chosen = sorted(fitting, key=lambda axis: -len(axis.values))[:2]  # of as many values the space's order
    else:
        named = axes_of(sweep, following=True)
        chosen = [axis for path in (first, second) for axis in named if axis.path == path]
    if len(chosen) < 2:
        raise NotDrawnError(
            f"it needs two settings that vary over at most {MOST_CELLS} values; "
            f"{listed(f'{axis.path} has {len(axis.values)}' for axis in axes) or 'none varies'}."
        )
    rows = selected_rows(sweep)
    others = [axis.path for axis in axes if axis not in chosen]
    settings = settings_table(sweep)
    for place, axis in zip(("down", "across"), chosen, strict=True):
        rows[place] = rows["arm"].map(settings[axis.path])
    return _draw(sweep, chosen[0], chosen[1], rows, cell_table(rows), others)


def cell_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per cell: means over seeds (of each seed over the arms that share the cell), half widths, and marks.

    ``<metric>_half``: of F1 and Eodd half the 95 % interval, of FATE the standard deviation over seeds.
    ``within``: the mean Eodd does not lie above the mean upper end of the cell's own models' noise floors;
    ``base_within``: in some seed the base's Eodd does not lie above its own, so that FATE divides by noise.
    """
    found = []
    for (down, across), own in rows.groupby(["down", "across"], sort=False):
        columns = ["val_f1", "val_eodd", FATE, "f1_error", "eodd_error", "eodd_floor_high"]
        seeds = own.groupby("seed")[columns].mean()
        row: dict[str, Any] = {"down": down, "across": across, "seeds": len(seeds), "arms": own["arm"].nunique()}
        row |= {"fate": seeds[FATE].mean(), "fate_half": seeds[FATE].std()}
        for metric in ("f1", "eodd"):
            mean, _, high = seed_means(seeds, metric)
            row |= {metric: mean, f"{metric}_half": high - mean}
        row["within"] = bool(row["eodd"] <= seeds["eodd_floor_high"].mean())
        row["base_within"] = bool((own["base_within_floor"] > 0).any())
        found.append(row)
    return pd.DataFrame(found)


@styled
def _draw(
    sweep: Recorded, down: Axis, across: Axis, rows: pd.DataFrame, table: pd.DataFrame, others: list[str]
) -> Drawn:
    beside = len(across.values) <= 5
    tall, wide = 0.45 * len(down.values) + 0.9, min(DOUBLE, max(SINGLE, 0.52 * len(across.values) + 1.0))
    figure = new_figure(DOUBLE, tall) if beside else new_figure(wide, 3 * tall)
    grid = figure.subplots(1, 3, sharey=True) if beside else figure.subplots(3, 1, sharex=True)
    for axes, (metric, title, colours) in zip(grid, PANELS, strict=True):
        _panel(axes, table, down, across, metric, colours)
        axes.set_title(title, loc="left")
    for axes in grid if beside else grid[-1:]:
        axes.set_xlabel(across.path)
    for axes in grid[:1] if beside else grid:
        axes.set_ylabel(down.path)
    title = f"FATE, F1 and Eodd over {down.path} and {across.path}"
    return Drawn("heat-map", title, _caption(sweep, down, across, rows, table, others), figure, table)


def _panel(axes: Axes, table: pd.DataFrame, down: Axis, across: Axis, metric: str, colours: str) -> None:
    values = table.pivot(index="down", columns="across", values=metric)
    values = values.reindex(index=list(down.values), columns=list(across.values))
    array = values.to_numpy(float)
    low, high = _limits(table, metric)
    axes.imshow(np.ma.masked_invalid(array), cmap=matplotlib.colormaps[colours], aspect="auto", vmin=low, vmax=high)
    shade = _shades(colours, low, high)
    axes.set_xticks(range(len(across.values)), [cut(value, 14) for value in across.values])
    axes.set_yticks(range(len(down.values)), [cut(value, 18) for value in down.values])
    if max(map(len, across.values)) > 6:
        axes.tick_params(axis="x", rotation=30)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(across.values) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(down.values) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=GROUND, linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    uneven = table["seeds"].nunique() > 1
    for row in table.to_dict("records"):
        y, x = down.values.index(row["down"]), across.values.index(row["across"])
        dark = row[metric] == row[metric] and is_dark(*shade(row[metric]))
        text = _cell(row, metric) + (f"\nn={row['seeds']}" if uneven else "")
        axes.text(x, y, text, ha="center", va="center", fontsize=SMALL, color="white" if dark else "black")


def _shades(colours: str, low: float, high: float) -> Callable[[float], tuple[float, float, float]]:
    """Red, green and blue of a value's cell."""
    palette = matplotlib.colormaps[colours]

    def shade(value: float) -> tuple[float, float, float]:
        red, green, blue, _ = palette((value - low) / (high - low))
        return float(red), float(green), float(blue)

    return shade


def _limits(table: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Of the colours: about 0 of FATE; never so narrow that differences within the intervals look large."""
    values, half = table[metric].dropna(), table[f"{metric}_half"].median()
    half = 0.0 if half != half else half
    if not len(values):
        return 0.0, 1.0
    if metric == "fate":
        most = max(float(values.abs().max()), half) or 1.0
        return -most, most
    middle, wide = (values.max() + values.min()) / 2, max(float(values.max() - values.min()) / 2, half, 1e-9)
    return middle - wide, middle + wide


def _cell(row: Mapping[Any, Any], metric: str) -> str:
    if row[metric] != row[metric]:
        return "undefined"
    mark = {"fate": "*" if row["base_within"] else "", "eodd": WITHIN if row["within"] else "", "f1": ""}[metric]
    half = row[f"{metric}_half"]
    digits = 2 if metric == "fate" else 3
    return f"{mark}{row[metric]:.{digits}f}" + (f"\n± {half:.{digits}f}" if half == half else "")


def _caption(
    sweep: Recorded, down: Axis, across: Axis, rows: pd.DataFrame, table: pd.DataFrame, others: list[str]
) -> str:
    seeds = sorted(set(table["seeds"]))
    return sentences(
        [
            told_of(sweep, rows["arm"].unique(), selected=True),
            f"{rows['arm'].nunique()} arms at their selected rounds, {listed(seeds)} seeds a cell"
            + (f"; mean over {listed(others)}, which also vary" if others else ""),
            f"F1 and Eodd ±: {INTERVAL}",
            "FATE of Eodd (against the trial's own round 0) ±: standard deviation over seeds",
            f"{WITHIN}: Eodd not to be told from the noise floor of the cell's own models ({FLOOR})",
            "*: the base's Eodd lies within its floor in some seed, so FATE divides by noise"
            if table["base_within"].any()
            else "",
            f"No noise floor, and of the images nothing in the intervals: {no_evidence(sweep)}"
            if rows["eodd_floor_high"].isna().all()
            else "",
            "Colours: lighter is better of F1 and Eodd; of FATE purple is above 0, orange below; they "
            "span at least the middle interval, so that what lies within it looks alike",
        ]
    )
