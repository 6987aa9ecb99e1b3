"""Which arm of a sweep is the best: one answer for its page, its figures and its tracker."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.ledger.models import selected_rounds
from scp_ray.report.search_result import NothingWholeError, SearchResult, search_result
from scp_ray.report.yardstick import yardstick_of


def trade_offs(sweep: Sweep) -> SearchResult | None:
    """The sweep read as a search; None while no configuration is whole."""
    try:
        return search_result(sweep)
    except NothingWholeError:
        return None


def feasible_arms(arms: pd.Series, result: SearchResult | None) -> pd.Series:
    """Whether each arm keeps the search's constraints, as far as it is known to be whole."""
    if result is None:
        return pd.Series(True, arms.index)
    known = result.configurations
    # an arm that is not among them has an undefined objective, which breaks no constraint
    found: pd.Series = ~arms.isin(known.loc[~known["feasible"], "arm"])
    return found


def best_first(whole: pd.Series, feasible: pd.Series, fate: pd.Series, f1: pd.Series) -> pd.Index:
    """The index of arms with the best first: whole and feasible ones, then the others; each by FATE.

    Undefined ones come last of their kind, by F1. The first one is the best if it is whole and feasible; else no arm
    is yet.
    """
    order = pd.DataFrame({"fit": whole & feasible, "fate": fate.fillna(float("-inf")), "f1": f1.where(fate.isna(), 0)})
    return order.sort_values(["fit", "fate", "f1"], ascending=False, kind="stable").index


@dataclass(frozen=True)
class Placed:
    """An arm in its place among the others."""

    arm: str
    fit: bool  # whole, and keeping every constraint: only then it can be the best
    fate: float  # mean over the seeds where it is defined, by ``yardstick_of``


def arms_best_first(sweep: Sweep) -> list[Placed]:
    """Every arm that has begun, read at its selected rounds; an arm is whole where all its seeds are done."""
    rows = selected_rounds(sweep)
    if rows.empty:
        return []
    own = rows.groupby("arm", sort=False)
    fate, f1 = own[f"val_{yardstick_of(sweep).column}"].mean(), own["val_f1"].mean()
    states = sweep.trials.groupby("arm")["status"]
    whole = states.agg(lambda found: bool((found == "done").all())).reindex(fate.index)
    feasible = feasible_arms(pd.Series(fate.index, fate.index), trade_offs(sweep))
    order = best_first(whole, feasible, fate, f1)
    return [Placed(str(arm), bool(whole[arm] and feasible[arm]), float(fate[arm])) for arm in order]
