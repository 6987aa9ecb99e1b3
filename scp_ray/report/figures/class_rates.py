"""Recall of every class in each group, with its support: of the base model and of the best arm."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scp_ray.ledger import Sweep
from scp_ray.ledger.evidence import primary
from scp_ray.maths.rates import group_counts
from scp_ray.maths.wilson import wilson
from scp_ray.report.figures.drawn import Drawn, NotDrawnError
from scp_ray.report.figures.rows import arms_in_turn, selected_rows
from scp_ray.report.figures.style import BLUE, DOUBLE, ORANGE, SMALL, errorbars, legend_above, new_figure, styled
from scp_ray.report.figures.words import cut, sentences, told_of

MOST_CLASSES = 14
LOOKS = ((ORANGE, "o", -0.17), (BLUE, "s", 0.17))  # by group: colour, marker, aside
SIDES = ("before pruning", "after")


def class_rates(sweep: Sweep, arm: str | None = None) -> Drawn:
    """True positive rate by class and group on validation: of ``arm`` (by default the best) and of its base.

    Raises NotDrawnError where predictions are gone or the attribute has more than two groups.
    """
    rows = selected_rows(sweep)
    chosen, among = (arm, 0) if arm else next(iter(arms_in_turn(sweep, rows).items()))
    own = rows[rows["arm"] == chosen]
    _refuse_gone(sweep, own)
    selected = [(str(name), int(index)) for name, index in zip(own["trial_id"], own["selected_round"], strict=True)]
    starts = [(name, 0) for name, _ in selected]
    classes = int(own["num_classes"].iloc[0])
    tables = []
    for side, asked in zip(SIDES, (starts, selected), strict=True):
        counted, attribute = _counts(sweep, asked, classes)
        tables.append(rate_table(*counted).assign(side=side))
    table = pd.concat(tables, ignore_index=True)
    names = class_names(sweep, chosen, classes)
    table.insert(0, "name", [names[code] for code in table["class"]])
    return _draw(sweep, chosen, among, table, attribute)


def rate_table(hits: np.ndarray, support: np.ndarray) -> pd.DataFrame:
    """From right answers (S, 2, K) of S seeds and support (2, K): a row per class and group.

    ``tpr`` is the mean over seeds, ``low`` and ``high`` Wilson's interval at the class's images: the seeds answer the
    same ones, so they do not count S times.
    """
    with np.errstate(invalid="ignore"):
        tpr = hits.mean(axis=0) / support
    low, high = wilson(np.nan_to_num(tpr), support)
    groups, classes = np.indices(support.shape)
    columns = {"class": classes, "group": groups, "support": support, "tpr": tpr, "low": low, "high": high}
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()})


def class_names(sweep: Sweep, arm: str, classes: int) -> list[str]:
    """As the data set names them, where the ledger's data health tells; else "class 0"."""
    entry = next(entry for entry in sweep.definition["arms"] if entry["label"] == arm)
    key = str(entry.get("data", {}).get("table", ""))[:16]
    health = sweep.definition.get("data", {}).get(key, {}).get("health", {})
    names = list(health.get("classes", {}).get("val", {}))
    return names if len(names) == classes else [f"class {code}" for code in range(classes)]


def _refuse_gone(sweep: Sweep, own: pd.DataFrame) -> None:
    """Raises NotDrawnError where the answers of a selected round, or of the base model before it, are gone."""
    for trial_id, base_id, index in zip(own["trial_id"], own["base_id"], own["selected_round"], strict=True):
        needed = {f"trial {trial_id}": sweep.ledger.table_path("predictions", trial_id)} if index else {}
        needed |= {f"base model {base_id}": sweep.ledger.base_folder(base_id) / "predictions.parquet"}
        for whose, path in needed.items():
            if not path.exists():
                raise NotDrawnError(f"the predictions of {whose} are gone.")


def _counts(sweep: Sweep, places: list[tuple[str, int]], classes: int) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    hits, support, attribute = [], np.zeros((2, classes), dtype=np.int64), ""
    for trial_id, index in places:
        said = sweep.round_predictions(trial_id, index)
        said = said[said["split"] == "val"]
        attribute = primary(said)
        if said[attribute].max() > 1:
            raise NotDrawnError(f"{attribute} has more than two groups.")
        counts = group_counts(said["label"], said["prediction"], said[attribute], num_classes=classes)
        hits.append(counts.tp)
        support = counts.support
    return (np.stack(hits), support), attribute


@styled
def _draw(sweep: Sweep, arm: str, among: int, table: pd.DataFrame, attribute: str) -> Drawn:
    sizes = table[table["side"] == SIDES[0]].groupby("class")["support"].sum()
    shown = list(sizes.sort_values(ascending=False, kind="stable").index[:MOST_CLASSES])
    figure = new_figure(DOUBLE, 0.34 * len(shown) + 1.0)
    grid = figure.subplots(1, 2, sharey=True, sharex=True)
    for axes, side in zip(grid, SIDES, strict=True):
        own = table[(table["side"] == side) & table["class"].isin(shown)]
        _panel(axes, own.assign(y=own["class"].map(shown.index)), attribute)
        axes.set_title(side if side == SIDES[0] else cut(f"{side}: {arm}", 42), loc="left")
        axes.set_xlabel("true positive rate (recall)")
    labels = [cut(str(table.loc[table["class"] == code, "name"].iloc[0]), 24) for code in shown]
    grid[0].set_yticks(range(len(shown)), labels)
    grid[0].set_ylim(len(shown) - 0.5, -0.5)
    legend_above(figure, 2)
    thin = int((table[table["side"] == SIDES[0]]["support"] < 5).sum())
    caption = sentences(
        [
            told_of(sweep, [arm], selected=True),
            f"The arm {arm}"
            + (f", the best of {among} arms by mean FATE on these very images," if among > 1 else "")
            + " at its selected rounds, beside its base models (round 0)",
            "Markers: mean over seeds of the share of a class's images in a group that are recognised; bars: 95 % "
            "Wilson intervals at the number of images, which stands at the right; every seed answers the same images, "
            "so they count once; images of one lesion count as independent",
            f"{thin} of {2 * len(sizes)} cells hold fewer than five images" if thin else "",
            f"The {len(shown)} largest of {len(sizes)} classes are drawn; all are in the table"
            if len(shown) < len(sizes)
            else "",
        ]
    )
    return Drawn("class-rates", "Recall by class and group", caption, figure, table)


def _panel(axes: Axes, table: pd.DataFrame, attribute: str) -> None:
    for group, (colour, marker, aside) in enumerate(LOOKS):
        own = table[table["group"] == group]
        y = own["y"] + aside
        bars = np.stack([own["tpr"] - own["low"], own["high"] - own["tpr"]])
        errorbars(axes, own["tpr"], y, xerr=np.abs(bars), linestyle="", color=colour, marker="")
        axes.plot(own["tpr"], y, marker, color=colour, ms=4, label=f"{attribute} {group}")
        for place, count in zip(y, own["support"], strict=True):
            axes.text(1.04, place, f"{count:.0f}", fontsize=SMALL, va="center", clip_on=False)
    axes.text(1.04, -0.62, "images", fontsize=SMALL, va="bottom", clip_on=False)
    axes.set_xlim(-0.02, 1.16)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
