"""Fairness gaps between two groups; the published readings and the corrected ones, each named.

The published readings follow the metric code released with the paper: an undefined rate counts as 0, and
Eodd takes the absolute value of the *sum* of the TPR and FPR differences, so opposite gaps cancel. All are 0 for
equal rates and symmetric in the group codes. Counts (2, K) give a number, counts (R, 2, K) an array (R,).
"""

from __future__ import annotations

import numpy as np

from scp_ray.maths.rates import Counts, Floats, share

GAPS = ("eopp0", "eopp1", "eodd")


def eopp0(counts: Counts, classes: int) -> Floats:
    """mean_c |TNR_c^0 - TNR_c^1| over the first ``classes`` classes (released: EOpp0_abs)."""
    return _summed("eopp0", counts, classes)


def eopp1(counts: Counts, classes: int) -> Floats:
    """mean_c |TPR_c^0 - TPR_c^1| (released: EOpp1_abs). A class absent from one group adds the other's TPR."""
    return _summed("eopp1", counts, classes)


def eodd(counts: Counts, classes: int) -> Floats:
    """1/2 mean_c |(TPR_c^0 - TPR_c^1) + (FPR_c^0 - FPR_c^1)| (released: EOdds_abs)."""
    return _summed("eodd", counts, classes)


def eodd_sum_abs(counts: Counts, classes: int) -> Floats:
    """1/2 mean_c (|TPR_c^0 - TPR_c^1| + |FPR_c^0 - FPR_c^1|): equalised odds without cancellation."""
    return _summed("eodd_sum_abs", counts, classes)


def terms(gap: str, counts: Counts, classes: int) -> Floats:
    """(..., T) signed differences whose absolute values sum to the gap of that name; T is a multiple of ``classes``."""
    if gap == "eopp0":
        return _difference(counts.tnr, classes) / classes
    tpr = _difference(counts.tpr, classes) / classes
    if gap == "eopp1":
        return tpr
    fpr = _difference(counts.fpr, classes) / classes
    return (tpr + fpr) / 2 if gap == "eodd" else np.concatenate([tpr, fpr], -1) / 2


def eopp1_shared(counts: Counts) -> Floats:
    """mean |TPR_c^0 - TPR_c^1| over the classes that both groups contain; NaN where there is none."""
    shared = (counts.support > 0).all(-2)
    tpr = np.abs(np.nan_to_num(counts.tpr[..., 0, :]) - np.nan_to_num(counts.tpr[..., 1, :]))
    return share(np.where(shared, tpr, 0.0).sum(-1), shared.sum(-1))


def _summed(gap: str, counts: Counts, classes: int) -> Floats:
    total: Floats = np.abs(terms(gap, counts, classes)).sum(-1)
    return total


def _difference(rates: Floats, classes: int) -> Floats:
    """(..., 2, K) to (..., classes): group 0 minus group 1, an undefined rate counted as 0."""
    filled = np.nan_to_num(rates[..., :classes], nan=0.0)
    difference: Floats = filled[..., 0, :] - filled[..., 1, :]
    return difference
