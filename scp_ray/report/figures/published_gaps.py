"""The gaps that the paper prints, beside the noise floor of the test table that they were measured on."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from scp_ray.report.figures.drawn import Drawn
from scp_ray.report.figures.style import (
    BLUE,
    DOUBLE,
    GREY,
    GROUND,
    PALE,
    SMALL,
    VERMILION,
    legend_above,
    new_figure,
    styled,
)
from scp_ray.report.figures.words import cut, sentences
from scp_ray.report.published import TABLES, floors
from scp_ray.report.published_audit import gap_cells

LOOKS = {"above": (VERMILION, "^", VERMILION), "within": (GREY, "o", GROUND), "below": (BLUE, "v", BLUE)}


def gap_table(gap: str = "eodd") -> pd.DataFrame:
    """A row per printed method: dataset, table, method, printed, floor with its band, position against the band."""
    datasets = {heading.title: heading.dataset for heading in TABLES.values()}
    rows = [
        {"dataset": datasets[cell.table], "table": cell.table, "method": cell.method, "printed": cell.printed}
        | {"floor": cell.floor.mean, "low": cell.floor.low, "high": cell.floor.high, "position": cell.position}
        for cell in gap_cells()
        if cell.gap == gap
    ]
    return pd.DataFrame(rows)


@styled
def published_gaps(gap: str = "eodd") -> Drawn:
    """A point per method of the paper's five tables, a panel per test table, its floor shaded."""
    table = gap_table(gap)
    datasets = list(dict.fromkeys(table["dataset"]))
    most = table.groupby("dataset").size().max()
    figure = new_figure(DOUBLE, 0.8 + 0.135 * float(most))
    grid = figure.subplots(1, len(datasets))
    for axes, dataset in zip(grid, datasets, strict=True):
        _panel(axes, table[table["dataset"] == dataset])
        axes.set_title(dataset, loc="left")
        axes.set_xlabel(f"{gap.capitalize()} (lower is better)")
    legend_above(figure, 5)
    name = f"published-{gap}"
    return Drawn(name, f"The paper's {gap.capitalize()} and its noise floor", _caption(gap), figure, table)


def _panel(axes: Axes, table: pd.DataFrame) -> None:
    one = table.iloc[0]
    axes.axvspan(one["low"], one["high"], color=PALE, lw=0, zorder=0, label="noise floor, 95 %")
    axes.axvline(one["floor"], color=GREY, lw=0.8, zorder=1, label="its mean")
    table = table.assign(y=range(len(table)))
    for position, (colour, marker, face) in LOOKS.items():
        own = table[table["position"] == position]
        if len(own):
            axes.plot(own["printed"], own["y"], marker, color=colour, markerfacecolor=face, ms=4, label=position)
    axes.set_yticks(table["y"], [_name(row["table"], row["method"]) for row in table.to_dict("records")])
    axes.tick_params(axis="y", length=0, labelsize=SMALL)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlim(0, 1.06 * max(table["printed"].max(), one["high"]))


def _name(table: str, method: str) -> str:
    """ "FairPrune (S1)"."""
    return f"{cut(method, 26)} ({table.replace('Supplementary Table ', 'S').replace('Table ', '')})"


def _caption(gap: str) -> str:
    told = []
    for (dataset, name), floor in floors().items():
        if name == gap:
            told.append(f"{dataset} n = {floor.n:,} images, classifiers right in {100 * floor.accuracy:.0f} %")
    return sentences(
        [
            "Test split, as printed in Tables 1 and 2 and Supplementary Tables 1 to 3 (S1 to S3); these print neither "
            "seeds nor a rule by which a round was selected",
            "Shaded: what classifiers show in 95 of 100 cases that are fair by construction and right about as often "
            f"as the paper's ({'; '.join(told)})",
            "An open circle cannot be told from one of them; a filled triangle lies outside of the band wherever it is "
            "within its own rounding",
            "The paper prints no predictions, so its own models' floors cannot be had: how their errors spread over "
            "classes would move the band",
        ]
    )
