"""The rows that figures are drawn of: rounds with their floors, selected rounds with their intervals, the best arm."""

from __future__ import annotations

import math

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.maths.seeds import mean_over_seeds
from scp_ray.report.best import arms_best_first
from scp_ray.report.figures.drawn import NotDrawnError
from scp_ray.report.recorded import Recorded
from scp_ray.report.tables import with_floors

FATE = "val_fate_eodd_base"


def rounds_of_arms(sweep: Recorded) -> pd.DataFrame:
    """A row per arm, seed and round that the arm asked for, with the floors of its Eodd (``tables.with_floors``).

    Raises NotDrawnError where no round has been recorded yet.
    """
    if not len(sweep.rounds):
        raise NotDrawnError("no round has been recorded yet.")
    trials = sweep.trials[["arm", "trial_id", "rounds_asked", "selected_round", "status"]]
    rows = with_floors(trials.merge(sweep.rounds, on="trial_id"), sweep.evidence)
    return rows[rows["round"] <= rows["rounds_asked"]].reset_index(drop=True)


def selected_rows(sweep: Recorded) -> pd.DataFrame:
    """Of these the round that speaks for each trial, with the standard errors ``f1_error`` and ``eodd_error``."""
    rows = rounds_of_arms(sweep)
    rows = rows[rows["round"] == rows["selected_round"]].reset_index(drop=True)
    return with_errors(rows, sweep.evidence)


def with_errors(rows: pd.DataFrame, evidence: pd.DataFrame) -> pd.DataFrame:
    """Rounds of trials with the standard errors of their F1 and Eodd; NaN where there is no evidence."""
    for metric in ("f1", "eodd"):
        found = evidence[(evidence["metric"] == metric) & (evidence["split"] == "val")]
        errors = found[["trial_id", "round", "standard_error"]].rename(columns={"standard_error": f"{metric}_error"})
        rows = rows.merge(errors, on=["trial_id", "round"], how="left")
    return rows


def seed_means(own: pd.DataFrame, metric: str) -> tuple[float, float, float]:
    """Mean of a metric over the seeds' rows (``with_errors``) and its 95 % interval (``maths.seeds``).

    Without any evidence, as of a sweep from MLflow, of the spread between seeds alone; none where a seed's is missing.
    """
    errors = own[f"{metric}_error"]
    return mean_over_seeds(own[f"val_{metric}"], None if errors.isna().all() else errors)


INTERVAL = (
    "95 % intervals of means over seeds, of the spread between seeds (t) and the images' standard errors; seeds answer "
    "the same images, so the latter do not average out"
)


def arms_in_turn(sweep: Sweep, rows: pd.DataFrame) -> dict[str, int]:
    """The arms that ``rows`` are of, the best first (``report.best``), each with the number that it was ranked among.

    It is 0 for those that nothing ranks: not whole, not feasible, or without a defined FATE. Raises NotDrawnError where
    there is no arm.
    """
    there = set(rows["arm"])
    if not there:
        raise NotDrawnError("no arm has a selected round yet.")
    placed = [each for each in arms_best_first(sweep) if each.arm in there]
    ranked = [each.arm for each in placed if each.fit and not math.isnan(each.fate)]
    return {each.arm: len(ranked) if each.arm in ranked else 0 for each in placed}
