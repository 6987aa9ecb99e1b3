"""What the most sensitive channels of a base model see on images of each group."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from scp_ray.ledger import Sweep
from scp_ray.parts import FairnessData, Learner, PrunableLayer, Split
from scp_ray.report.figures.base_model import batch_of, config_of, load_base, load_data, maps_of
from scp_ray.report.figures.channel_sets import channels_of
from scp_ray.report.figures.class_rates import class_names
from scp_ray.report.figures.drawn import Drawn, NotDrawnError
from scp_ray.report.figures.rows import arms_in_turn, selected_rows
from scp_ray.report.figures.style import DOUBLE, SMALL, new_figure, styled
from scp_ray.report.figures.words import cut, layer_text, sentences, told_of

CHANNELS, PER_GROUP, JUDGED = 6, 2, 32  # columns; images of each group drawn, and taken for the means


def sensitive_maps(sweep: Sweep, arm: str | None = None) -> Drawn:
    """Feature maps of the channels with the lowest scores before pruning, in the first seed of ``arm`` or the best one.

    Beside the maps of sample images the channel's mean over images of each group is told. Raises NotDrawnError, saying
    why, where the scores, the data set or the weights are not here.
    """
    rows = selected_rows(sweep)
    for name in [arm] if arm else arms_in_turn(sweep, rows):
        trial = rows[rows["arm"] == name].sort_values("seed").iloc[0]
        scores = _first_scores(sweep, str(trial["trial_id"]))
        if len(scores):
            break
    else:
        raise NotDrawnError("no arm has channel scores.")
    config, base = config_of(sweep, str(name), int(trial["seed"])), str(trial["base_id"])
    data = load_data(sweep, config, base)
    learner, layer = load_base(sweep, config, base, data)
    lowest = scores.nsmallest(CHANNELS, "score", keep="first")
    val = data.splits["val"]
    label, rows_of = sample_rows(val)
    batch = batch_of(val, torch.tensor([row for drawn in rows_of.values() for row in drawn]))
    maps = maps_of(learner, layer, batch)[:, lowest["channel"].tolist()].numpy()
    means = _group_means(learner, layer, val, lowest["channel"].tolist())
    table = lowest.reset_index(drop=True).assign(**means)
    facts = {
        "arm": str(name),
        "seed": int(trial["seed"]),
        "layer": layer_text(trial),
        "class": class_names(sweep, str(name), int(trial["num_classes"]))[label],
    }
    facts["told"] = told_of(sweep, [str(name)], selected=True)
    return _draw(batch.image.permute(0, 2, 3, 1).numpy(), maps, rows_of, table, data, facts)


def _first_scores(sweep: Sweep, trial_id: str) -> pd.DataFrame:
    """channel, score: those before anything was pruned; no rows where there are none."""
    try:
        found = channels_of(sweep, [trial_id])
    except NotDrawnError:
        return pd.DataFrame()
    return found.loc[(found["round"] == 1) & found["score"].notna(), ["channel", "score"]]


def sample_rows(split: Split) -> tuple[int, dict[int, list[int]]]:
    """The class with the most images in the group that has fewest of it, and each group's first images of it."""
    group = split.attributes[:, 0].numpy()
    codes = sorted(set(group.tolist()))
    label = split.label.numpy()
    fewest = np.stack([np.bincount(label[group == code], minlength=label.max() + 1) for code in codes]).min(axis=0)
    chosen = int(fewest.argmax())
    if not fewest[chosen]:
        raise NotDrawnError("no class has validation images of every group.")
    rows = {code: np.flatnonzero((label == chosen) & (group == code))[:PER_GROUP].tolist() for code in codes}
    return chosen, rows


def _group_means(learner: Learner, layer: PrunableLayer, split: Split, channels: list[int]) -> dict[str, np.ndarray]:
    """``mean_<group>`` of each channel's map over the group's first images, ``error_<group>``: its standard error."""
    group = split.attributes[:, 0]
    means: dict[str, np.ndarray] = {}
    for code in sorted(set(group.tolist())):
        rows = (group == code).nonzero().flatten()[:JUDGED]
        each = (
            maps_of(learner, layer, batch_of(split, rows))[:, channels].mean(dim=(2, 3)).numpy()
        )  # (images, channels)
        means[f"mean_{code}"] = each.mean(axis=0)
        means[f"error_{code}"] = each.std(axis=0, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan * each[0]
    return means


@styled
def _draw(
    images: np.ndarray,
    maps: np.ndarray,
    rows_of: dict[int, list[int]],
    table: pd.DataFrame,
    data: FairnessData,
    facts: dict[str, Any],
) -> Drawn:
    groups = [code for code, rows in rows_of.items() for _ in rows]
    columns = len(table) + 1
    side = (DOUBLE - 0.5) / columns
    figure = new_figure(DOUBLE, side * len(groups) + 0.65)
    grid = figure.subplots(len(groups), columns, squeeze=False)
    attribute = data.attribute_names[0]
    for at, code in enumerate(groups):
        _picture(grid[at, 0], images[at])
        grid[at, 0].set_ylabel(f"{attribute} {code}", fontsize=SMALL + 1)
        for place in range(len(table)):
            ends = float(maps[:, place].min()), float(maps[:, place].max())
            _picture(
                grid[at, place + 1], maps[at, place], cmap=matplotlib.colormaps["cividis"], vmin=ends[0], vmax=ends[1]
            )
    grid[0, 0].set_title("image", fontsize=SMALL + 1)
    for place, row in enumerate(table.to_dict("records"), 1):
        grid[0, place].set_title(f"channel {row['channel']:.0f}\nscore {row['score']:.3f}", fontsize=SMALL + 1)
        told = [f"{code}: {row[f'mean_{code}']:+.2f} ± {row[f'error_{code}']:.2f}" for code in rows_of]
        grid[-1, place].set_xlabel("\n".join(told), fontsize=SMALL)
    grid[-1, 0].set_xlabel(f"mean ± error\nby {cut(attribute, 14)}", fontsize=SMALL)
    caption = sentences(
        [
            f"Feature maps (convolution's output, before norm and activation) of the {len(table)} channels of "
            f"{facts['layer']} with the lowest scores, in the base model (round 0) of seed {facts['seed']} of the arm "
            f"{cut(facts['arm'], 60)}; a low score says that the channel separates the groups",
            f"Of what the arm was chosen by: {facts['told']}",
            f"Pictures: the first validation images of class {facts['class']} in each group of {attribute}",
            "Dark is low and light is high, on one scale for each channel",
            f"Below: the channel's mean over the first images of each group, at most {JUDGED}, of all classes, ± its "
            "standard error over these images; "
            "four images show what a channel sees, they prove nothing about the groups",
        ]
    )
    return Drawn("sensitive-maps", "What the most sensitive channels see", caption, figure, table)


def _picture(axes: Axes, picture: np.ndarray, **more: Any) -> None:
    axes.imshow(picture, interpolation="nearest", **more)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
