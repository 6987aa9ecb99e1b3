"""The rows that figures are drawn of: rounds with their floors, selected rounds with their intervals, the best arm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from scp_ray.report.figures.drawn import NotDrawnError
from scp_ray.report.recorded import Recorded
from scp_ray.report.tables import with_floors

FATE = "val_fate_eodd_base"
LEVEL = 0.95


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


def seed_mean_interval(values: Sequence[float], errors: Sequence[float]) -> tuple[float, float, float]:
    """Mean over S seeds and its 95 % interval, from each seed's value and its standard error over images.

    Variance = between-seed variance / S + the squared mean error: the seeds' models answer the same images, so what
    the images contribute is taken not to average out. t with Satterthwaite's degrees of freedom, the images' part with
    infinitely many. One seed: the images' part alone. NaN ends where nothing is known of the spread.
    """
    known, spread = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    mean, count = float(known.mean()), len(known)
    images = float(spread.mean()) ** 2 if not np.isnan(spread).any() else 0.0
    seeds = float(known.var(ddof=1)) / count if count > 1 else 0.0
    variance = images + seeds
    if math.isnan(mean) or not variance:
        return mean, math.nan, math.nan
    freedom = variance**2 / (seeds**2 / (count - 1)) if seeds else math.inf
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return mean, mean - half, mean + half


INTERVAL = (
    "95 % intervals of means over seeds (t, Satterthwaite), of the spread between seeds and the images' standard "
    "errors; seeds answer the same images, so the latter do not average out"
)


def best_arm(rows: pd.DataFrame) -> str:
    """The arm with the highest mean FATE of Eodd at its selected rounds, of those whose seeds are all done if any are.

    ``rows`` as of ``selected_rows``. Raises NotDrawnError where no arm has a FATE.
    """
    means = mean_fates(rows)
    if not len(means):
        raise NotDrawnError("no arm has a defined FATE of Eodd yet.")
    return str(means.index[0])


def mean_fates(rows: pd.DataFrame) -> pd.Series:
    """Mean FATE by arm, highest first, whole arms before the others; undefined ones are left out."""
    groups = rows.groupby("arm", sort=False)
    table = pd.DataFrame({"fate": groups[FATE].mean(), "done": groups["status"].agg(lambda s: set(s) == {"done"})})
    ordered: pd.Series = table.dropna().sort_values(["done", "fate"], ascending=False, kind="stable")["fate"]
    return ordered
