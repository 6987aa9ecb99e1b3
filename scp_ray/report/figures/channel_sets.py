"""Which channels the trials of a sweep have pruned, and how much of that the seeds and the arms have in common."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.ledger.files import read_many
from scp_ray.maths.overlap import chance_jaccard, chance_jaccard_band, jaccard
from scp_ray.report.figures.drawn import NotDrawnError
from scp_ray.report.figures.words import layer_text

BETWEEN_SEEDS, BETWEEN_ARMS = "between seeds of an arm", "between arms of a seed"


def channels_of(sweep: Sweep, trial_ids: Iterable[str]) -> pd.DataFrame:
    """A row per round and channel of these trials alone: a large sweep has millions of rows that no figure shows.

    Rounds that are not yet committed, or are more than the trial's arms asked for, are the caller's business. Raises
    NotDrawnError where there is none.
    """
    known = {trial_id: sweep.ledger.table_path("channels", trial_id) for trial_id in trial_ids}
    known = {trial_id: path for trial_id, path in known.items() if path.exists()}
    if not known:
        raise NotDrawnError("no channel has been scored yet, or the channel tables are gone.")
    tables = [table.to_pandas() for table in read_many(list(known.values()))]
    rows = [table.assign(trial_id=key) for key, table in zip(known, tables, strict=True)]
    return pd.DataFrame(pd.concat(rows, ignore_index=True))


def pruned_channels(rows: pd.DataFrame, channels: pd.DataFrame) -> pd.DataFrame:
    """A row per channel that was pruned: arm, seed, trial_id, layer, channel, round, channels (C).

    ``rows``: the selected round of each trial (``rows.selected_rows``); what went in later rounds does not count.
    """
    upto = rows[["arm", "seed", "trial_id", "round"]].rename(columns={"round": "upto"})
    upto["layer"] = [layer_text(row) for row in rows.to_dict("records")]
    sizes = channels.groupby("trial_id")["channel"].max() + 1
    gone = channels.loc[channels["pruned"], ["trial_id", "round", "channel"]].merge(upto, on="trial_id")
    gone = gone[gone["round"] <= gone["upto"]].drop(columns="upto")
    return gone.assign(channels=gone["trial_id"].map(sizes)).reset_index(drop=True)


def overlaps(pruned: pd.DataFrame) -> pd.DataFrame:
    """A row per pair of trials of one layer that share the arm or the seed: kind, jaccard, chance, low, high.

    ``chance`` is the expected index of random sets of the same sizes, ``low`` and ``high`` the middle 95 % of it.
    """
    found = []
    for layer, own in pruned.groupby("layer", sort=False):
        count = int(own["channels"].iloc[0])
        trials = own.groupby(["arm", "seed"], sort=False)
        sets = {key: set(rows["channel"]) for key, rows in trials}
        ran = trials["trial_id"].first().to_dict()
        for first, second in itertools.combinations(sets, 2):
            if (first[0] == second[0]) == (first[1] == second[1]) or ran[first] == ran[second]:
                continue  # another arm and another seed: nothing is held fixed; a trial that two arms share: all is
            sizes = len(sets[first]), len(sets[second]), count
            low, high = chance_jaccard_band(*sizes)
            kind = BETWEEN_SEEDS if first[0] == second[0] else BETWEEN_ARMS
            row = {"kind": kind, "layer": layer, "arm": first[0], "seed": first[1]}
            row |= {"other_arm": second[0], "other_seed": second[1], "jaccard": jaccard(sets[first], sets[second])}
            found.append(row | {"chance": chance_jaccard(*sizes), "low": low, "high": high})
    columns = ["kind", "layer", "arm", "seed", "other_arm", "other_seed", "jaccard", "chance", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def mean_overlaps(pairs: pd.DataFrame, arms: Iterable[str]) -> pd.DataFrame:
    """A row per arm that has pairs (between its seeds), then one of all pairs between arms: means and counts.

    ``jaccard_std`` is the spread of the pairs; a mean over pairs of the same sets has no simple standard error.
    """
    groups = [(arm, pairs[(pairs["kind"] == BETWEEN_SEEDS) & (pairs["arm"] == arm)]) for arm in arms]
    groups.append((BETWEEN_ARMS, pairs[pairs["kind"] == BETWEEN_ARMS]))
    found = []
    for name, own in groups:
        if len(own):
            means = {column: float(own[column].mean()) for column in ("jaccard", "chance", "low", "high")}
            spread = float(own["jaccard"].std()) if len(own) > 1 else float("nan")
            found.append({"name": name, "pairs": len(own), "jaccard_std": spread} | means)
    return pd.DataFrame(found, columns=["name", "pairs", "jaccard_std", "jaccard", "chance", "low", "high"])


def strip(pruned: pd.DataFrame, keys: list[tuple[str, int]], channels: int) -> np.ndarray:
    """(len(keys), C) the round that each channel went in; NaN where it did not. ``keys``: arm and seed."""
    matrix = np.full((len(keys), channels), np.nan)
    places = {key: at for at, key in enumerate(keys)}
    for arm, seed, channel, index in pruned[["arm", "seed", "channel", "round"]].itertuples(index=False):
        if (arm, seed) in places:
            matrix[places[arm, seed], channel] = index
    return matrix
