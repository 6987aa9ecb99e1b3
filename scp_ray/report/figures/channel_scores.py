"""Channel scores before pruning and after it, the pruned channels marked: the paper's Fig. 1(2) and 1(3)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from scp_ray.ledger import Sweep
from scp_ray.report.figures.channel_sets import channels_of
from scp_ray.report.figures.drawn import Drawn, NotDrawnError
from scp_ray.report.figures.rows import arms_in_turn, selected_rows
from scp_ray.report.figures.style import BLUE, DOUBLE, GREY, PALE, SMALL, VERMILION, legend_above, new_figure, styled
from scp_ray.report.figures.words import cut, layer_text, sentences, told_of

SIGNIFICANT = 0.05


def channel_scores(sweep: Sweep, arm: str | None = None) -> Drawn:
    """Scores of the layer's channels by rank, of ``arm`` or the best arm that scores channels.

    The ledger's scores of round r are those that chose r's channels: of the model after r - 1 rounds. So the last ones
    it has are of the model before its last round, and the caption says which. Raises NotDrawnError where there is none.
    """
    rows = selected_rows(sweep)
    candidates = {arm: 0} if arm else arms_in_turn(sweep, rows)
    for name, among in candidates.items():
        own = rows[rows["arm"] == name].sort_values("seed")
        try:
            table = score_table(channels_of(sweep, own["trial_id"]), own)
        except NotDrawnError:
            continue
        if len(table):
            return _draw(sweep, str(name), own, table, among)
    raise NotDrawnError("no arm has channel scores: nothing was scored yet, or only controls without scores ran.")


def score_table(channels: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """A row per trial, stage and channel: score, rank among the channels still there, ``state``.

    ``stage`` is the number of rounds the scored model had been pruned for: 0, and the largest that there is. ``state``:
    "pruned next" (chosen by these scores), "pruned later", "kept", or "gone" (pruned before; its map is constant, its
    score means nothing and has no rank).
    """
    own = channels.merge(trials[["trial_id", "seed", "rounds_asked"]], on="trial_id")
    own = own[own["round"] <= own["rounds_asked"]]
    own = own[own.groupby(["trial_id", "round"])["score"].transform("count") > 0]
    if not len(own):
        return pd.DataFrame()
    went = own[own["pruned"]].set_index(["trial_id", "channel"])["round"]
    keys = pd.MultiIndex.from_frame(own[["trial_id", "channel"]])
    own["went"] = went.reindex(keys).to_numpy()  # NaN: never
    last = own.groupby("trial_id")["round"].transform("max")
    own = own[(own["round"] == 1) | (own["round"] == last)]
    there = ~(own["went"] < own["round"])
    states = {"gone": ~there, "pruned next": own["went"] == own["round"], "pruned later": own["went"].notna()}
    own["state"] = np.select(list(states.values()), list(states), default="kept")
    own["stage"] = own["round"] - 1
    own["rank"] = own["score"].where(there).groupby([own["trial_id"], own["round"]]).rank(method="first")
    columns = ["trial_id", "seed", "stage", "channel", "score", "p", "rank", "state"]
    return own[columns].reset_index(drop=True)


@styled
def _draw(sweep: Sweep, arm: str, trials: pd.DataFrame, table: pd.DataFrame, among: int) -> Drawn:
    first = str(trials["trial_id"].iloc[0])
    stages = sorted(table.loc[table["trial_id"] == first, "stage"].unique())
    figure = new_figure(DOUBLE, 2.6)
    grid = figure.subplots(1, len(stages), sharey=True, squeeze=False)[0]
    for axes, stage in zip(grid, stages, strict=True):
        own = table[table["stage"] == stage]
        _panel(axes, own[own["trial_id"] == first], own)
        axes.set_title(
            "before pruning (round 0)" if stage == 0 else f"after {stage} round" + "s" * int(stage > 1), loc="left"
        )
        axes.set_xlabel("channels, by score")
    if len(stages) > 1:
        start = table[(table["trial_id"] == first) & (table["stage"] == 0)].sort_values("rank")
        grid[1].plot(start["rank"], start["score"], color=BLUE, lw=0.8, ls="--", label="the same before pruning")
    grid[0].set_ylabel("channel score (low: prune first)")
    legend_above(figure, 6)
    return Drawn("channel-scores", "Channel scores before and after pruning (Fig. 1)",
                 _caption(sweep, arm, trials, table, among), figure, table)  # fmt: skip


def _panel(axes: Axes, shown: pd.DataFrame, every: pd.DataFrame) -> None:
    """The first seed's scores, over the range of all seeds' at each rank."""
    spread = every.dropna(subset=["rank"]).groupby("rank")["score"].agg(["min", "max"])
    if every["trial_id"].nunique() > 1:
        axes.fill_between(spread.index, spread["min"], spread["max"], color=PALE, lw=0, label="range over seeds")
    there = shown.dropna(subset=["rank"]).sort_values("rank")
    axes.plot(there["rank"], there["score"], color=GREY, lw=0.7, zorder=1)
    small = min(1.0, (100 / len(shown)) ** 0.4)  # hundreds of channels lie close
    looks = {
        "kept": ("o", GREY, 1.5),
        "pruned later": ("^", BLUE, 4 * small),
        "pruned next": ("X", VERMILION, 4.5 * small),
    }
    for state, (marker, colour, size) in looks.items():
        own = there[there["state"] == state]
        axes.plot(own["rank"], own["score"], marker, color=colour, ms=size, mew=0.3, label=state, zorder=2)
    sure = there[there["p"] <= SIGNIFICANT]
    if len(sure):
        axes.plot(sure["rank"], sure["score"], "o", mfc="none", mec="black", mew=0.6, ms=7, label="p ≤ 0.05", zorder=3)
    gone = int((shown["state"] == "gone").sum())
    if gone:
        axes.text(0.98, 0.03, f"{gone} pruned before, not shown", transform=axes.transAxes, ha="right", fontsize=SMALL)


def _caption(sweep: Sweep, arm: str, trials: pd.DataFrame, table: pd.DataFrame, among: int) -> str:
    trial = trials.iloc[0]
    config = next(entry["config"] for entry in sweep.definition["arms"] if entry["label"] == arm)
    criterion = config.get("criterion", {})
    name = criterion.get("name", "unknown") if isinstance(criterion, dict) else str(criterion)
    last = int(table["stage"].max())
    return sentences(
        [
            f"Scores by {name} of {layer_text(trial)}, {table['channel'].nunique()} channels, on "
            f"training batches, of the arm {cut(arm, 60)}"
            + (f" (the best of {among} by mean FATE)" if among > 1 else ""),
            f"Points: seed {int(trial['seed'])}; crosses: the channels that these scores chose; triangles: those of "
            "later rounds; each panel ranks the channels that are left by itself",
            "Shaded: smallest to largest score over all seeds at a rank" if len(trials) > 1 else "",
            f"The last scores are of the model after {last} of {int(trial['rounds_asked'])} rounds: those that chose "
            "the last round's channels"
            if last
            else "",
            "Rings: p ≤ 0.05 against permuted groups, uncorrected" if (table["p"] <= SIGNIFICANT).any() else "",
            "No test of single channels was asked for (pick.rule: significant, against permuted groups)"
            if table["p"].isna().all()
            else "",
            told_of(sweep, [arm], selected=True).replace(
                "Validation split", "The arm was chosen on the validation split"
            ),
        ]
    )
