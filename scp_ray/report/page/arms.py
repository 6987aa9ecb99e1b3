"""What each arm reaches at its selected rounds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.best import best_first, feasible_arms
from scp_ray.report.search_result import SearchResult
from scp_ray.report.yardstick import Yardstick, baselines_of, gaps_of


def arm_rows(sweep: Sweep, rows: pd.DataFrame, result: SearchResult | None) -> pd.DataFrame:
    """A row per arm, in the sweep's order, over the trials that have begun, each at its selected round.

    Args:
        sweep: the sweep.
        rows: its ``round_rows``.
        result: its trade-offs, where there are any yet.

    Columns: arm, its axes, ``done`` of ``asked`` seeds, ``seeds`` that are read, ``rounds`` ("2, 3", by seed); of F1,
    gaps and FATE mean and ``_std``; of F1 and gaps ``_low`` and ``_high`` (mean ends of the images' 95 % intervals),
    ``before_<...>`` (the same of round 0) and ``vanilla_<...>`` (the vanilla models' mean); ``<gap>_floor_mean``,
    ``_floor_high``, ``_p`` (median), ``above_<gap>`` seeds whose gap lies above its floor's upper end,
    ``base_within_<gap>`` seeds whose round 0 does not; channels_left, channels, ``seconds`` (mean over trials, of the
    pruning rounds), ``whole``, ``feasible``, ``front``, ``knee``.
    """
    trials = sweep.trials
    chosen = rows.merge(trials[["arm", "trial_id", "selected_round"]], on=["arm", "trial_id"])
    chosen = chosen[chosen["round"] == chosen["selected_round"]]
    gaps, baselines = gaps_of(sweep.rounds), baselines_of(sweep.rounds)
    fates = [f"fate_{gap}_{name}" for gap in gaps for name in baselines]
    groups = trials.groupby("arm", sort=False)
    axes = list(dict.fromkeys(axis for arm in sweep.definition["arms"] for axis in arm["settings"] if axis in trials))
    table = groups[axes].first() if axes else pd.DataFrame(index=pd.Index(trials["arm"].unique(), name="arm"))
    table["asked"] = groups.size()
    table["done"] = groups["status"].agg(lambda values: int((values == "done").sum()))
    start = rows[rows["round"] == 0]
    own = chosen.groupby("arm", sort=False)
    table["seeds"] = own.size().reindex(table.index, fill_value=0)
    table["rounds"] = own["round"].agg(_listed)
    for name in ("f1", *gaps, *fates):
        table[name], table[f"{name}_std"] = own[name].mean(), own[name].std()
    for gap in gaps:
        table[f"{gap}_floor_mean"] = own[f"{gap}_floor_mean"].mean()
        table[f"{gap}_floor_high"] = own[f"{gap}_floor_high"].mean()
        table[f"{gap}_p"] = own[f"{gap}_p"].median()
        above = _above(chosen, gap)
        table[f"above_{gap}"] = above.groupby(chosen["arm"], sort=False).sum(min_count=1)
        within = 1 - _above(start, gap)
        table[f"base_within_{gap}"] = within.groupby(start["arm"], sort=False).sum(min_count=1)
    first = start.groupby("arm", sort=False)
    for name in ("f1", *gaps):
        table[f"vanilla_{name}"] = own[f"vanilla_{name}"].mean()
        for part in (name, f"{name}_low", f"{name}_high"):
            table[part], table[f"before_{part}"] = own[part].mean(), first[part].mean()
    if "channels_left" in rows:
        table["channels_left"], table["channels"] = own["channels_left"].mean(), first["channels_left"].mean()
    if "seconds" in rows:
        spent = rows[rows["round"] > 0].groupby(["arm", "trial_id"], sort=False)["seconds"].sum()
        table["seconds"] = spent.groupby("arm", sort=False).mean()
    table = table.reset_index()
    return table.assign(**_standing(table, result))


def _listed(rounds: pd.Series) -> str:
    """ "2, 3" by seed; "2" where all seeds chose the same."""
    shown = [f"{index:.0f}" for index in rounds]
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def _above(rows: pd.DataFrame, gap: str) -> pd.Series:
    """1 where a row's gap lies above its floor's upper end, 0 where it does not, NaN without evidence."""
    high = rows[f"{gap}_floor_high"]
    found: pd.Series = (rows[gap] > high).astype(float).where(high.notna())
    return found


def _standing(table: pd.DataFrame, result: SearchResult | None) -> dict[str, Any]:
    """Which arms are whole, keep the search's constraints, stand on the front, are its knee."""
    whole = (table["done"] == table["asked"]) & (table["seeds"] == table["asked"])
    found: dict[str, Any] = {"whole": whole, "feasible": True, "front": False, "knee": False}
    if result is not None:
        known = result.configurations
        found |= {name: table["arm"].isin(known.loc[known[name], "arm"]) for name in ("front", "knee")}
        found["feasible"] = feasible_arms(table["arm"], result)
    return found


def ranked(table: pd.DataFrame, yardstick: Yardstick) -> pd.DataFrame:
    """``arm_rows`` with the best first (``best.best_first``)."""
    order = best_first(table["whole"], table["feasible"], table[yardstick.column], table["f1"])
    return table.loc[order].reset_index(drop=True)
