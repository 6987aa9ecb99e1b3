"""F1 and every gap of many tables at once, by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from scp_ray.maths import gaps
from scp_ray.maths.rates import Counts, Floats, f1_mean, many_counts

METRICS = ("f1", *gaps.GAPS)  # of differences
ALL = (*METRICS, "eodd_sum_abs")


def metrics_of(counts: Counts) -> dict[str, Floats]:
    """Each of ``ALL`` of counts (..., 2, K); NaN where a group has no samples."""
    classes = counts.tp.shape[-1]
    undefined = np.where((counts.support.sum(-1) > 0).all(-1), 0.0, np.nan)
    by_gap = {name: getattr(gaps, name)(counts, classes) + undefined for name in ALL[1:]}
    return {"f1": f1_mean(counts), **by_gap}


def observed_metrics(label: Any, group: Any, predictions: Any, *, num_classes: int) -> dict[str, Floats]:
    """Each of ``ALL`` of predictions (P, N), as arrays (P,)."""
    return metrics_of(many_counts(label, predictions, group, num_classes=num_classes))
