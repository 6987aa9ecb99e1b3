"""FATE of Eodd against the pruning round, one line per arm: the paper's Fig. 2."""

from __future__ import annotations

import io
import textwrap

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scp_ray.ledger.files import write_bytes
from scp_ray.places import AnyPath
from scp_ray.report.figures.style import MOST_BANDS, look

MOST_ARMS = 24  # lines whose names fit beside the axes


def draw_fate_curves(table: pd.DataFrame, caption: str, seeds: pd.DataFrame | None = None) -> Figure:
    """A figure of ``fate_table``'s rows; of more than MOST_ARMS those with the highest FATE, which the caption says.

    Args:
        table: columns arm, round, fate_mean, fate_std; with fate_floor_low and fate_floor_high, and as few arms as
            ``draws_bands`` says, each arm's noise floor is shaded.
        caption: set below the figure.
        seeds: columns arm, round, fate: single trials, drawn as dots.
    """
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    bands, count = draws_bands(table), table["arm"].nunique()
    if count > MOST_ARMS:
        best = table.groupby("arm", sort=False)["fate_mean"].max().nlargest(MOST_ARMS, keep="first").index
        table = table[table["arm"].isin(best)]
        caption += f" Drawn are {MOST_ARMS} arms of {count}, of the highest mean FATE in any round; all: CSV."
    arms = list(table.groupby("arm", sort=False))
    for position, (arm, rows) in enumerate(arms):
        own_look = look(position)
        # side by side within a round: bands of several arms on top of each other cannot be read
        aside = 0.4 * ((position + 0.5) / len(arms) - 0.5)
        axes.errorbar(
            rows["round"] + aside,
            rows["fate_mean"],
            yerr=rows["fate_std"],
            label=arm,
            markersize=5,
            linewidth=1.4,
            elinewidth=0.9,
            capsize=2,
            **own_look,
        )
        if bands:
            ends = rows["fate_floor_low"], rows["fate_floor_high"]
            axes.fill_between(rows["round"] + aside, *ends, color=own_look["color"], alpha=0.12, linewidth=0, zorder=0)
        if seeds is not None:
            own = seeds[seeds["arm"] == arm]
            axes.scatter(own["round"] + aside, own["fate"], s=10, color=own_look["color"], alpha=0.5, linewidths=0)
    axes.axhline(0, color="#666666", linewidth=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("pruning round (0: the model before pruning)")
    axes.set_ylabel("FATE of Eodd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    figure.supxlabel(textwrap.fill(caption, 118), fontsize=7, x=0.02, ha="left")
    return figure


def draws_bands(table: pd.DataFrame) -> bool:
    """Whether noise floors are drawn: where there are some, of few arms."""
    known = "fate_floor_low" in table and table["fate_floor_low"].notna().any()
    return bool(known) and table["arm"].nunique() <= MOST_BANDS


def save_figure(figure: Figure, stem: AnyPath) -> list[AnyPath]:
    """Write stem.png (200 dots per inch) and stem.svg; returns their paths. Raises LedgerError."""
    paths = []
    for kind in ("png", "svg"):
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, dpi=200)
        paths.append(stem.with_suffix(f".{kind}"))
        write_bytes(paths[-1], picture.getvalue())
    return paths
