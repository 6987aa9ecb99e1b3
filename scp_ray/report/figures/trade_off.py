"""The trade-off plane: F1 across, Eodd up, every arm at its selected rounds, the front, its knee, published points."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scp_ray.ledger import Sweep
from scp_ray.maths.pareto import knee, pareto_front
from scp_ray.report.figures.drawn import Drawn, NotDrawnError
from scp_ray.report.figures.rows import INTERVAL, seed_means, selected_rows, with_errors
from scp_ray.report.figures.style import (
    BLUE,
    GREY,
    GROUND,
    PALE,
    SINGLE,
    SMALL,
    VERMILION,
    errorbars,
    legend_above,
    new_figure,
    styled,
)
from scp_ray.report.figures.words import FLOOR, cut, listed, sentences, told_of

MOST_BARS, MOST_NAMED, MOST_BASES = 30, 6, 3


def trade_off(sweep: Sweep, *, published: pd.DataFrame | None = None) -> Drawn:
    """F1 against Eodd of every arm. ``published``: columns method, f1, eodd; points of other tables of images.

    Raises NotDrawnError where no arm has both numbers yet.
    """
    rows = selected_rows(sweep)
    table = plane_table(rows)
    if not len(table):
        raise NotDrawnError("no arm has F1 and Eodd at a selected round yet.")
    bases = _bases(sweep, rows)
    if published is not None:
        published = published.dropna(subset=["f1", "eodd"]).reset_index(drop=True)
    return _draw(sweep, table, bases, published if published is not None and len(published) else None)


def plane_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per arm, in the sweep's order: means over seeds with ``_low`` and ``_high`` (``seed_means``).

    ``within``: the mean Eodd does not lie above the mean upper end of the arm's own noise floor; ``front``: no arm is
    better in one of the two and no worse in the other; ``knee``. Arms with an undefined mean are left out.
    """
    found = []
    for arm, own in rows.groupby("arm", sort=False):
        row: dict[str, Any] = {"arm": arm, "seeds": len(own)} | _means(own)
        row["within"] = bool(row["eodd"] <= own["eodd_floor_high"].mean())
        found.append(row)
    table = pd.DataFrame(found, columns=None if found else ["arm", "f1", "eodd"]).dropna(subset=["f1", "eodd"])
    table = table.reset_index(drop=True)
    if len(table):
        table["front"] = pareto_front(table["f1"], table["eodd"])
        costs = np.stack([-table["f1"], table["eodd"]], axis=1)
        bent = knee(np.where(table[["front"]], costs, np.nan))
        table["knee"] = table.index == (-1 if bent is None else bent)
    return table


def _means(own: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in ("f1", "eodd"):
        mean, low, high = seed_means(own, metric)
        low, high = np.clip([low, high], 0, 1).tolist()  # NaN stays
        found |= {metric: mean, f"{metric}_low": low, f"{metric}_high": high}
    return found


def _bases(sweep: Sweep, rows: pd.DataFrame) -> pd.DataFrame:
    """A row per base method: means over its base models' round 0, and over their noise floors."""
    starts = sweep.rounds[(sweep.rounds["round"] == 0) & sweep.rounds["trial_id"].isin(set(rows["trial_id"]))]
    starts = with_errors(starts.drop_duplicates("base_id"), sweep.evidence)
    floors = sweep.evidence[(sweep.evidence["metric"] == "eodd") & (sweep.evidence["split"] == "val")]
    starts = starts.merge(
        floors[["trial_id", "round", "floor_low", "floor_high"]], on=["trial_id", "round"], how="left"
    )
    if "method" not in starts:
        starts["method"] = "base"
    return pd.DataFrame(
        [
            {"method": method, "seeds": len(own)} | _means(own) | own[["floor_low", "floor_high"]].mean().to_dict()
            for method, own in starts.groupby("method", sort=False)
        ]
    )


@styled
def _draw(sweep: Sweep, table: pd.DataFrame, bases: pd.DataFrame, published: pd.DataFrame | None) -> Drawn:
    figure = new_figure(SINGLE, 3.3 + 0.1 * min(int(table["front"].sum()), MOST_NAMED))
    axes = figure.add_subplot()
    low, high = bases["floor_low"].mean(), bases["floor_high"].mean()
    if low == low:
        axes.axhspan(low, high, color=PALE, linewidth=0, zorder=0, label="base's noise floor")
    _arms(axes, table)
    _start(axes, bases)
    if published is not None:
        axes.plot(published["f1"], published["eodd"], "+", color=GREY, ms=5, label="published", zorder=2)
        for letter, x, y in zip(string.ascii_letters, published["f1"], published["eodd"], strict=False):
            axes.annotate(letter, (x, y), xytext=(2, 2), textcoords="offset points", fontsize=SMALL, color=GREY)
    axes.set_xlabel("F1 (higher is better)")
    axes.set_ylabel("Eodd (lower is better)")
    every = pd.concat([table, bases, *([] if published is None else [published])])
    axes.set_xlim(*_view(every["f1"], every["f1_high"] - every["f1"]))
    heights = pd.concat([every["eodd"], bases["floor_low"], bases["floor_high"]])
    axes.set_ylim(*_view(heights, every["eodd_high"] - every["eodd"]))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    legend_above(figure, 2)
    caption = _caption(sweep, table, bases, published)
    parts = [table.assign(kind="arm"), bases.rename(columns={"method": "arm"}).assign(kind="base")]
    if published is not None:
        parts.append(published.rename(columns={"method": "arm"}).assign(kind="published"))
    return Drawn("trade-off", "F1 against Eodd", caption, figure, pd.concat(parts, ignore_index=True))


def _view(points: pd.Series, halves: pd.Series) -> tuple[float, float]:
    """Both ends of an axis: room for bars of a length like the points' own range; longer ones leave the frame."""
    low, high = float(points.min()), float(points.max())
    longest = 0.0 if halves.isna().all() else float(halves.max())
    room = 1.05 * max(min(longest, 0.7 * (high - low)), 0.08 * (high - low)) or longest or 0.01
    edge = 0.03 * (high - low + room)  # nothing lies beyond 0 and 1
    return max(low - room, -edge), min(high + room, 1 + edge)


def _arms(axes: Axes, table: pd.DataFrame) -> None:
    front = table[table["front"]].sort_values("f1")
    axes.step(front["f1"], front["eodd"], where="pre", color=BLUE, linewidth=1.0, zorder=2)
    barred = table if len(table) <= MOST_BARS else front
    _bars(axes, barred)
    crowded = len(table) > MOST_BARS
    for label, own, colour, marker, size in (
        ("arm", table[~table["front"]], "#8C8C8C" if crowded else GREY, "o", 2.2 if crowded else 4),
        ("arm on the front", front, BLUE, "s", 4),
    ):
        if len(own):
            axes.plot(own["f1"], own["eodd"], marker, color=colour, ms=size, mew=0.6, label=label, zorder=3)
            inside = own[own["within"]]
            axes.plot(inside["f1"], inside["eodd"], marker, color=colour, ms=size, mew=0.6, mfc=GROUND, zorder=3)
    bent = table[table["knee"]]
    if len(bent):
        axes.plot(bent["f1"], bent["eodd"], "D", color=VERMILION, ms=6, markeredgecolor="black", label="knee", zorder=4)
    for number, (x, y) in enumerate(zip(front["f1"], front["eodd"], strict=True), 1):
        if len(front) <= MOST_NAMED:
            axes.annotate(str(number), (x, y), xytext=(4, -8), textcoords="offset points", fontsize=SMALL, zorder=5)


def _bars(axes: Axes, rows: pd.DataFrame) -> None:
    for name, axis in (("f1", "xerr"), ("eodd", "yerr")):
        ends = {axis: np.stack([rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]])}
        errorbars(axes, rows["f1"], rows["eodd"], linestyle="", ecolor="#A9A9A9", elinewidth=0.6, zorder=1, **ends)


def _start(axes: Axes, bases: pd.DataFrame) -> None:
    """The base models, each with its method's name where there are several."""
    _bars(axes, bases)
    axes.plot(bases["f1"], bases["eodd"], "*", color="black", ms=8, label="before pruning", zorder=3)
    if 1 < len(bases) <= MOST_BASES:
        for row in bases.to_dict("records"):
            axes.annotate(
                str(row["method"]), (row["f1"], row["eodd"]), xytext=(5, 3), textcoords="offset points", fontsize=SMALL
            )


def _caption(sweep: Sweep, table: pd.DataFrame, bases: pd.DataFrame, published: pd.DataFrame | None) -> str:
    front = table[table["front"]].sort_values("f1")
    shown = [f"{number} {cut(str(arm), 60)}" for number, arm in enumerate(front["arm"][:MOST_NAMED], 1)]
    parts = [
        told_of(sweep, table["arm"], selected=True),
        f"{len(table)} arms at their selected rounds; bars"
        + ("" if len(table) <= MOST_BARS else " (of the front alone)")
        + f": {INTERVAL}; cut at 0 and 1, and at the frame",
        f"the front is the best of {len(table)} tried, by the same numbers that it is drawn from, so it looks better "
        f"than it is: {'; '.join(shown)}" + (f" and {len(front) - MOST_NAMED} more" if len(front) > MOST_NAMED else ""),
        f"star: mean of the base models ({int(bases['seeds'].sum())} in all)"
        + (f" of each of {len(bases)} methods" if len(bases) > 1 else "")
        + f"; shaded: their noise floor of Eodd, {FLOOR}"
        if bases["floor_low"].notna().any()
        else "star: base models; no noise floor: the ledger has no evidence",
        "open markers: an arm whose Eodd lies within its own floor",
    ]
    if published is not None:
        names = [f"{letter} {name}" for letter, name in zip(string.ascii_letters, published["method"], strict=False)]
        parts.append(
            "crosses: the paper's numbers, of its own test images: where they lie against the arms says nothing by "
            f"itself ({listed(names)})"
        )
    return sentences(parts)
