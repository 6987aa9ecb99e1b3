"""FATE: how much fairness a change buys for the accuracy it costs."""

from __future__ import annotations

import math


def fate(f1: float, gap: float, *, f1_baseline: float, gap_baseline: float, weight: float = 1.0) -> float:
    """(F1_m - F1_b) / F1_b - weight * (gap_m - gap_b) / gap_b. 0 for the baseline itself, higher is better.

    F1 is the mean of the two groups' macro F1. NaN where the baseline's gap or F1 is 0 or any number is NaN
    (``fate_reason`` says which). Source: Xu et al. 2023, as used in the paper's tables.
    """
    if fate_reason(f1, gap, f1_baseline=f1_baseline, gap_baseline=gap_baseline):
        return math.nan
    return (f1 - f1_baseline) / f1_baseline - weight * (gap - gap_baseline) / gap_baseline


def fate_reason(f1: float, gap: float, *, f1_baseline: float, gap_baseline: float) -> str:
    """Why FATE is undefined, or the empty string."""
    if any(math.isnan(x) for x in (f1, gap, f1_baseline, gap_baseline)):
        return "a metric is undefined"
    if gap_baseline == 0:
        return "the baseline's gap is 0"
    if f1_baseline == 0:
        return "the baseline's F1 is 0"
    return ""
