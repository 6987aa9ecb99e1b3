"""Which arm of a sweep is the best: one answer for its page, its figures and its tracker."""

from __future__ import annotations

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


def best_first(whole: pd.Series, feasible: pd.Series, fate: pd.Series) -> pd.Index:
    """The index of arms with the best first: whole and feasible ones by FATE, then the others; undefined ones last."""
    order = pd.DataFrame({"fit": whole & feasible, "fate": fate.fillna(float("-inf"))})
    return order.sort_values(["fit", "fate"], ascending=False, kind="stable").index


def arms_best_first(sweep: Sweep) -> list[str]:
    """Labels of the arms with a defined FATE at their selected rounds, the best first.

    FATE is the mean over the seeds where it is defined, by ``yardstick_of``; an arm is whole where all its seeds are
    done.
    """
    rows = selected_rounds(sweep)
    if rows.empty:
        return []
    fate = rows.groupby("arm", sort=False)[f"val_{yardstick_of(sweep).column}"].mean()
    whole = sweep.trials.groupby("arm")["status"].agg(lambda states: bool((states == "done").all())).reindex(fate.index)
    feasible = feasible_arms(pd.Series(fate.index, fate.index), trade_offs(sweep))
    return [str(arm) for arm in best_first(whole, feasible, fate) if pd.notna(fate[arm])]
