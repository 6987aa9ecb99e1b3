"""FATE of Eodd against the pruning round by one setting: the paper's Fig. 2(a) by pr_c, 2(b) by layer, or any other."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scp_ray.report.figures.drawn import Drawn, NotDrawnError
from scp_ray.report.figures.rows import FATE, rounds_of_arms
from scp_ray.report.figures.style import (
    DOUBLE,
    GREY,
    GROUND,
    MOST_BANDS,
    PALE,
    SINGLE,
    errorbars,
    legend_above,
    look,
    new_figure,
    styled,
)
from scp_ray.report.figures.varying import Axis, axes_of, settings_table
from scp_ray.report.figures.words import FLOOR, cut, listed, sentences, told_of
from scp_ray.report.recorded import Recorded, Tracked, no_evidence, recorded

MOST_LINES, MOST_PANELS = 12, 4
TITLES = {"pr_c": "FATE by pruning ratio (Fig. 2a)", "layer": "FATE by layer (Fig. 2b)"}
LOW, HIGH = "fate_floor_low", "fate_floor_high"


def fate_by_axis(sweep: Recorded | Tracked, axis: str) -> Drawn:
    """One line per value of the setting ``axis``, a path below trial.

    What else the arms differ in is drawn as panels where that makes at most four, else averaged, and the caption says
    so. Raises NotDrawnError where the setting takes one value only, or more than can be told apart.
    A sweep from MLflow alone has no noise floors.
    """
    sweep = recorded(sweep)
    varying = axes_of(sweep, following=True) or [_arms(sweep)]
    found = next((known for known in varying if known.path == axis), None)
    if found is None:
        raise NotDrawnError(f"{axis} does not vary; what does: {listed(known.path for known in varying) or 'nothing'}.")
    if len(found.values) > MOST_LINES:
        raise NotDrawnError(f"{axis} takes {len(found.values)} values; lines of more than {MOST_LINES} cannot be read.")
    rows, others = _placed(sweep, found, [known for known in axes_of(sweep) if known.path != axis])
    return _draw(sweep, found, rows, others)


def curves_by_line(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per panel, line and round, and a row per seed of each of them.

    A seed's FATE is the mean over the arms that are averaged; ``fate_mean`` and ``fate_std`` are over the seeds that
    have one, ``fate_floor_low`` and ``_high`` means of the arms' and seeds' floors, ``within`` whether the mean Eodd
    does not lie above the mean upper end of its own floor.
    """
    keys = ["panel", "line", "round"]
    seeds = rows.groupby([*keys, "seed"], sort=False)[FATE].mean().rename("fate").reset_index()
    groups = seeds.groupby(keys, sort=False)["fate"]
    table = pd.DataFrame({"seeds": groups.count(), "fate_mean": groups.mean(), "fate_std": groups.std()})
    every = rows.groupby(keys, sort=False)
    table = table.join(every[[LOW, HIGH, "val_eodd", "eodd_floor_high"]].mean())
    table["trials"] = every.size()
    table["within"] = table["val_eodd"] <= table["eodd_floor_high"]
    return table.rename(columns={"val_eodd": "eodd_mean"}).reset_index(), seeds


def every_axis(sweep: Recorded | Tracked) -> list[str]:
    """The paths of the settings that vary; where none does, "arm"."""
    return [axis.path for axis in axes_of(recorded(sweep))] or ["arm"]


def _arms(sweep: Recorded) -> Axis:
    return Axis("arm", tuple(str(arm["label"]) for arm in sweep.definition["arms"]))


def _placed(sweep: Recorded, axis: Axis, others: list[Axis]) -> tuple[pd.DataFrame, str]:
    """Rounds with their panel and line, and the names of what is averaged."""
    settings = settings_table(sweep)
    rows = rounds_of_arms(sweep)
    rows["line"] = rows["arm"].map(settings[axis.path]) if axis.path in settings else rows["arm"]
    paths = [other.path for other in others]
    names = settings[paths].apply(lambda row: listed(f"{path}={row[path]}" for path in paths), axis=1)
    panels = len(set(names)) if paths else 1
    rows["panel"] = rows["arm"].map(names) if 1 < panels <= MOST_PANELS else ""
    order = {value: at for at, value in enumerate(axis.values)}
    rows = rows.sort_values("line", key=lambda column: column.map(order), kind="stable")
    return rows, "" if panels <= MOST_PANELS else listed(paths)


@styled
def _draw(sweep: Recorded, axis: Axis, rows: pd.DataFrame, averaged: str) -> Drawn:
    table, seeds = curves_by_line(rows)
    panels = list(dict.fromkeys(rows.sort_values("arm")["panel"]))
    wide = len(panels) > 1
    height = 2.6 if not wide else 2.5 * ((len(panels) + 1) // 2) + 0.2
    figure = new_figure(DOUBLE if wide else SINGLE, height + 0.13 * (len(axis.values) // 4))
    grid = figure.subplots((len(panels) + 1) // 2, 2 if wide else 1, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_axis_off()
            continue
        _panel(axes, axis, table[table["panel"] == panels[place]], seeds[seeds["panel"] == panels[place]])
        axes.set_title(cut(panels[place], 60), loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("pruning round (0: before pruning)")
    for axes in grid[:, 0]:
        axes.set_ylabel("FATE of Eodd")
    room = (76 if wide else 38) // (max(len(value) for value in axis.values) + 3)
    legend_above(figure, max(1, min(len(axis.values), room)), title=axis.path)
    name = f"fate-by-{re.sub('[^A-Za-z0-9_]+', '-', axis.path).strip('-')}"
    title = TITLES.get(axis.path, f"FATE by {axis.path}")
    return Drawn(name, title, _caption(sweep, axis, rows, table, averaged), figure, table)


def _panel(axes: Axes, axis: Axis, table: pd.DataFrame, seeds: pd.DataFrame) -> None:
    axes.axhline(0, color=GREY, linewidth=0.7, zorder=0)
    bands = len(axis.values) <= MOST_BANDS
    if not bands:
        pooled = table.groupby("round")[[LOW, HIGH]].mean()
        axes.fill_between(pooled.index, pooled[LOW], pooled[HIGH], color=PALE, linewidth=0, zorder=0)
    for position, value, own in _lines(table, axis):
        style = look(position)
        x = own["round"] + 0.4 * ((position + 0.5) / len(axis.values) - 0.5)
        line = {"color": style["color"], "linestyle": style["linestyle"]}
        errorbars(axes, x, own["fate_mean"], yerr=own["fate_std"], marker="", **line)
        axes.plot(x, own["fate_mean"], label=value, markerfacecolor=style["color"], **style)
        open_ones = own["within"].to_numpy()
        axes.plot(x[open_ones], own["fate_mean"][open_ones], **style | {"linestyle": ""}, markerfacecolor=GROUND)
        if bands:
            axes.fill_between(x, own[LOW], own[HIGH], color=style["color"], alpha=0.13, lw=0, zorder=0)
        dots = seeds[seeds["line"] == value]
        aside = x.iloc[0] - own["round"].iloc[0]
        # beside the bar, not under it
        axes.scatter(dots["round"] + aside + 0.05, dots["fate"], s=5, color=style["color"], alpha=0.6, linewidths=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _lines(table: pd.DataFrame, axis: Axis) -> Iterator[tuple[int, str, pd.DataFrame]]:
    """Those that have reached a round, each with its place among all values: it looks alike in every panel."""
    for position, value in enumerate(axis.values):
        own = table[table["line"] == value].sort_values("round")
        if len(own):
            yield position, value, own


def _caption(sweep: Recorded, axis: Axis, rows: pd.DataFrame, table: pd.DataFrame, averaged: str) -> str:
    parts = [
        told_of(sweep, rows["arm"].unique(), selected=False),
        f"FATE of Eodd against each trial's own round 0 (higher is better) by {axis.path}; lines: means over seeds"
        + (f" and over {averaged}, which also vary" if averaged else ""),
        "bars: ± 1 standard deviation over seeds; dots: single seeds",
    ]
    if table[LOW].notna().any():
        whose = "each line's" if len(axis.values) <= MOST_BANDS else "all lines' mean"
        parts += [f"shaded: {whose} noise floor, {FLOOR}", "open markers: mean Eodd within its noise floor"]
    else:
        parts.append(f"no noise floor: {no_evidence(sweep)}")
    undefined = int(rows[FATE].isna().sum())
    if undefined:
        parts.append(f"FATE is undefined in {undefined} of {len(rows)} rounds (the base's gap is 0)")
    noise = rows[rows["round"] == 0]["base_within_floor"]
    if (noise > 0).any():
        parts.append(
            f"{int((noise > 0).sum())} of {len(noise)} trials start at an Eodd within its floor: FATE is noise"
        )
    return sentences(parts)
