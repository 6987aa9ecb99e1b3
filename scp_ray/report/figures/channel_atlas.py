"""Which channels were pruned, per arm and seed, and whether seeds and arms agree on them more than chance would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scp_ray.ledger import Sweep
from scp_ray.report.figures.channel_sets import (
    BETWEEN_ARMS,
    channels_of,
    mean_overlaps,
    overlaps,
    pruned_channels,
    strip,
)
from scp_ray.report.figures.drawn import Drawn, NotDrawnError
from scp_ray.report.figures.rows import arms_in_turn, selected_rows
from scp_ray.report.figures.style import BLUE, DOUBLE, PALE, SMALL, errorbars, new_figure, styled
from scp_ray.report.figures.varying import short_names
from scp_ray.report.figures.words import cut, seeds_of, sentences, told_of

MOST_ARMS, MOST_SEEDS, MOST_LAYERS = 8, 5, 4


def channel_atlas(sweep: Sweep) -> Drawn:
    """A strip per arm and seed, a column per channel, dark where it was pruned; beside it the overlap of the sets.

    Raises NotDrawnError where nothing was pruned.
    """
    rows = selected_rows(sweep)
    rows, left_out = _chosen(sweep, rows)
    pruned = pruned_channels(rows, channels_of(sweep, rows["trial_id"]))
    if not len(pruned):
        raise NotDrawnError("no channel was pruned up to the selected rounds.")
    pairs = overlaps(pruned)
    return _draw(sweep, rows, pruned, pairs, mean_overlaps(pairs, rows["arm"].unique()), left_out)


def _chosen(sweep: Sweep, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The arms with the best FATE, in the sweep's order, their first seeds; and what is left out, in words.

    Arms at round 0 have pruned nothing and stay out of the choice.
    """
    rows = rows[rows["round"] > 0]
    if rows.empty:
        raise NotDrawnError("every arm's selected round is round 0, before pruning.")
    ranks = arms_in_turn(sweep, rows)
    arms = list(ranks)[:MOST_ARMS]
    seeds = sorted(rows["seed"].unique())[:MOST_SEEDS]
    kept = rows[rows["arm"].isin(arms) & rows["seed"].isin(seeds)]
    words = [
        f"the {len(arms)} best arms of {rows['arm'].nunique()} that pruned"
        if len(arms) < rows["arm"].nunique()
        else "",
        f"the first {len(seeds)} of {rows['seed'].nunique()} seeds" if len(seeds) < rows["seed"].nunique() else "",
    ]
    return kept, " and ".join(word for word in words if word)


@styled
def _draw(
    sweep: Sweep, rows: pd.DataFrame, pruned: pd.DataFrame, pairs: pd.DataFrame, means: pd.DataFrame, left_out: str
) -> Drawn:
    names, shared = short_names(sweep, rows["arm"].unique())
    layers = list(dict.fromkeys(zip(pruned["layer"], pruned["channels"], strict=True)))[:MOST_LAYERS]
    keys = {layer: _keys(pruned[pruned["layer"] == layer[0]]) for layer in layers}
    strips = sum(map(_height, keys.values())) + 0.42 * len(layers)
    summary = 0.17 * len(means) + 0.55 if len(means) else 0.0
    figure = new_figure(DOUBLE, strips + summary + 0.65)
    heights = [_height(keys[layer]) + 0.3 for layer in layers] + ([summary] if summary else [])
    grid = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    rounds = int(pruned["round"].max())
    norm = BoundaryNorm(np.arange(0.5, rounds + 1.5), rounds)
    colours = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.85, rounds)))  # dark to light
    for axes, layer in zip(grid, layers, strict=False):
        matrix = strip(pruned[pruned["layer"] == layer[0]], keys[layer], int(layer[1]))
        _strips(axes, matrix, [(names[arm], seed) for arm, seed in keys[layer]], colours, norm)
        axes.set_title(f"{layer[0]}, {layer[1]} channels", loc="left")
    _key(figure, colours, norm, rounds)
    if summary:
        _overlap_panel(grid[-1], means.assign(name=means["name"].map(lambda name: names.get(name, name))))
    caption = _caption(sweep, rows, pairs, left_out, shared)
    return Drawn("channel-atlas", "Pruned channels and their overlap", caption, figure, _data(pruned, pairs))


def _keys(pruned: pd.DataFrame) -> list[tuple[str, int]]:
    """Arm and seed of each strip."""
    return list(dict.fromkeys(zip(pruned["arm"], pruned["seed"].astype(int), strict=True)))


def _height(keys: list[tuple[str, int]]) -> float:
    """Inches for so many strips: each can be seen, and the names of the arms do not touch."""
    return max(0.095 * len(keys), 0.15 * len({arm for arm, _ in keys}))


def _strips(axes: Axes, matrix: np.ndarray, keys: list[tuple[str, int]], colours: Colormap, norm: BoundaryNorm) -> None:
    axes.imshow(np.ma.masked_invalid(matrix), cmap=colours, norm=norm, aspect="auto", interpolation="none")
    arms = list(dict.fromkeys(arm for arm, _ in keys))
    middles = [np.mean([at for at, key in enumerate(keys) if key[0] == arm]) for arm in arms]
    axes.set_yticks(middles, [cut(arm, 30) for arm in arms])
    for arm in arms[1:]:
        axes.axhline(next(at for at, key in enumerate(keys) if key[0] == arm) - 0.5, color="#888888", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(True)
    axes.set_xlabel("channel")


def _key(figure: Figure, colours: Colormap, norm: BoundaryNorm, rounds: int) -> None:
    """Which shade is which round."""
    patches = [Patch(color=colours(norm(index)), label=str(index)) for index in range(1, rounds + 1)]
    layout = {"loc": "outside upper left", "ncols": min(rounds, 12), "columnspacing": 1.2, "alignment": "left"}
    figure.legend(handles=patches, title="pruned in round", handlelength=1.0, **layout)


def _overlap_panel(axes: Axes, means: pd.DataFrame) -> None:
    y = np.arange(len(means))
    axes.barh(
        y, means["high"] - means["low"], left=means["low"], height=0.6, color=PALE, label="chance: 95 of 100 pairs"
    )
    axes.plot(means["chance"], y, "|", color="black", ms=8, label="chance: mean")
    errorbars(axes, means["jaccard"], y, xerr=means["jaccard_std"], linestyle="", color=BLUE, marker="o", label="seen")
    axes.set_yticks(y, [_name(row) for row in means.to_dict("records")])
    axes.set_ylim(len(means) - 0.4, -0.6)
    axes.set_xlim(-0.01, 1.01)
    axes.set_xlabel("Jaccard index of the pruned sets")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.97), ncols=3, fontsize=SMALL, borderpad=0.2)


def _name(row: Mapping[Any, Any]) -> str:
    who = row["name"] if row["name"] == BETWEEN_ARMS else f"seeds of {cut(row['name'], 34)}"
    return f"{who} ({row['pairs']} pair{'s' if row['pairs'] > 1 else ''})"


def _data(pruned: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Both tables in one, told apart by ``what``."""
    return pd.concat([pruned.assign(what="pruned"), pairs.assign(what="overlap")], ignore_index=True)


def _caption(sweep: Sweep, rows: pd.DataFrame, pairs: pd.DataFrame, left_out: str, shared: str) -> str:
    layers = rows["layer_name"].nunique() if "layer_name" in rows else 1
    return sentences(
        [
            told_of(sweep, rows["arm"].unique(), selected=True),
            "Above: a line per seed of each arm, a cell per channel, filled where it was pruned up to the selected "
            f"round, lighter in later rounds ({seeds_of(rows)}, from top to bottom)",
            f"Drawn are {left_out}" if left_out else "",
            f"All of them have {shared}" if shared else "",
            f"The first {MOST_LAYERS} of {layers} layers are drawn" if layers > MOST_LAYERS else "",
            "Below: mean Jaccard index of two pruned sets (1: the same channels), bars ± 1 standard deviation over "
            "pairs; beside it what random sets of the same sizes would show (hypergeometric, exact)"
            if len(pairs)
            else "No two sets of one layer to compare",
            "Arms of one seed and base method start from the same model. Channels of other networks are the same ones "
            "only where both start from the same weights: from random ones no more than chance is to be expected"
            if len(pairs)
            else "",
        ]
    )
