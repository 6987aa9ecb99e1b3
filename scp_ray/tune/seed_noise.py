"""How far trainings scatter: the seeds' noise in comparisons with the models before pruning, in earlier sweeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from scp_ray.ledger.load import Sweep
from scp_ray.ledger.models import selected_rounds

FEWEST = 2  # degrees of freedom, those of three seeds; with fewer an estimate is as good as none
_KEPT = ["arm", "trial_id", "vanilla_id"]
_ARM = ["sweep", "arm"]


def differences(sweep: Sweep) -> pd.DataFrame:
    """What ``scp-ray compare ARM base`` pairs, in Eodd on validation: a row per arm and trial that is done.

    Columns arm, trial_id, vanilla_id and difference: Eodd of the selected round less that of round 0 of the same trial.
    Where a trial is not done, what is selected may still change.
    """
    rows = selected_rounds(sweep)
    if rows.empty:
        return pd.DataFrame(columns=[*_KEPT, "difference"])
    rows = rows[rows["status"] == "done"]
    first = sweep.rounds[sweep.rounds["round"] == 0].set_index("trial_id")["val_eodd"]
    before = rows["trial_id"].map(first)
    return rows[_KEPT].assign(difference=rows["val_eodd"] - before)


def seed_sd(sweeps: Sequence[pd.DataFrame]) -> tuple[float, int] | None:
    """Standard deviation over seeds of the paired difference between an arm and the models before pruning.

    With D[a, s] the difference of arm a and seed s, and S[a] its seeds, the variance told is

        sum over a and s of (D[a, s] - mean over s of D[a, s])^2  /  sum over a of (S[a] - 1)

    the mean over arms of each arm's own variance, where all have as many seeds. An arm's variance is unbiased however
    the arms hang together, so their mean is, too. It is the variance of D itself, in the scale of
    ``maths.power.smallest_difference``, whose variance of a mean over S seeds is (seed_sd^2 + images) / S. Nothing is
    doubled: with u the noise of the trained base and v that of the pruned arm, var(D) = var(v - u) has both in it. The
    difference of two pruned arms does not, since u stands in both and cancels.

    The degrees of freedom are those of the base models: arms of one seed begin at one base, and where v - u is mostly
    the base's, A arms of S seeds vary as one does, the mean of their variances with the error of S - 1 degrees. Were D
    independent between the arms it would be that of A (S - 1); what is told is the least. Base models of one training
    plan and seed count as one, whatever their method: they begin at the same weights, and some are made of others.

    Trials count once, in the arm that has most of them: arms of other labels, or of a sweep beside it, that resolve to
    the same trials are no new draws. Arms that never moved from their base (round 0 was the best, or the only one) say
    nothing.

    Args:
        sweeps: rows of one data set, as ``differences`` gives them.

    Returns the standard deviation and its degrees of freedom; None with fewer than ``FEWEST``.
    """
    if not sweeps:
        return None
    rows = pd.concat([frame.assign(sweep=at) for at, frame in enumerate(sweeps)]).dropna(subset=["difference"])
    rows = rows[(rows["difference"] != 0).groupby([rows[name] for name in _ARM]).transform("any")]
    size = rows.groupby(_ARM)["trial_id"].transform("size")
    rows = rows.assign(size=size).sort_values("size", ascending=False, kind="stable").drop_duplicates("trial_id")
    if not len(rows) or (degrees := _degrees(rows)) < FEWEST:
        return None
    arms = rows.groupby(_ARM)["difference"]
    squares = float(((rows["difference"] - arms.transform("mean")) ** 2).sum())
    return (squares / (len(rows) - arms.ngroups)) ** 0.5, degrees


def _degrees(rows: pd.DataFrame) -> int:
    """Base models, less one for each set of them that arms join: their means are taken off."""
    base = pd.factorize(rows["vanilla_id"])[0]
    arm = rows.groupby(_ARM).ngroup().to_numpy() + base.max() + 1
    nodes = arm.max() + 1
    joined = coo_array((np.ones(len(rows)), (base, arm)), shape=(nodes, nodes))
    return int(base.max()) + 1 - int(connected_components(joined, directed=False)[0])
