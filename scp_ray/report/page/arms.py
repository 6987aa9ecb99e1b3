"""What each arm reaches at its selected rounds, and by what arms are ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.page.rounds import baselines_of, gaps_of
from scp_ray.report.search_result import SearchResult

GAP_TITLES = {"eodd": "Eodd", "eopp0": "Eopp0", "eopp1": "Eopp1"}


@dataclass(frozen=True)
class Yardstick:
    """FATE of which gap, against which baseline."""

    gap: str
    baseline: str  # base: the trial's own round 0; vanilla: the vanilla model of the same seed

    @property
    def column(self) -> str:
        """Of ``round_rows``."""
        return f"fate_{self.gap}_{self.baseline}"

    @property
    def gap_title(self) -> str:
        """ "Eodd"."""
        return GAP_TITLES[self.gap]

    @property
    def title(self) -> str:
        """ "FATE of Eodd", with its baseline where that is not the trial's own."""
        return f"FATE of {self.gap_title}" + (" against vanilla" if self.baseline == "vanilla" else "")


def yardstick_of(sweep: Sweep) -> Yardstick:
    """The gap of the stop rule, Eodd where arms differ in it.

    Where trials start from several base methods each one's own round 0 is another yardstick: then all are held against
    the vanilla model of their seed.
    """
    gaps = {arm["config"]["stop"]["gap"] for arm in sweep.definition["arms"]}
    gap = gaps.pop() if len(gaps) == 1 else "eodd"
    others = (sweep.trials["base_id"] != sweep.trials["vanilla_id"]).any()
    known = "vanilla" in baselines_of(sweep.rounds)
    return Yardstick(gap if gap in gaps_of(sweep.rounds) else "eodd", "vanilla" if others and known else "base")


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
        # an arm that is not among them has an undefined objective, which breaks no constraint
        found["feasible"] = ~table["arm"].isin(known.loc[~known["feasible"], "arm"])
    return found


def ranked(table: pd.DataFrame, yardstick: Yardstick) -> pd.DataFrame:
    """``arm_rows`` with the best first: whole and feasible ones by FATE, then the others; undefined ones last."""
    last = float("-inf")
    order = pd.DataFrame({"fit": table["whole"] & table["feasible"], "fate": table[yardstick.column].fillna(last)})
    return table.loc[order.sort_values(["fit", "fate"], ascending=False, kind="stable").index].reset_index(drop=True)
