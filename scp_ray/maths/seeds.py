"""The interval of a metric's mean over training seeds whose models answer the same images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scp_ray.maths.paired import LEVEL, half_width


def mean_over_seeds(values: Any, errors: Any = None) -> tuple[float, float, float]:
    """Mean of a metric (S,) and the ends of its 95 % interval, from each seed's standard error (S,) over images.

    Half the width is that of Banerjee (``maths.paired.half_width``): of the variance between seeds over S, with S - 1
    degrees of freedom, and of the mean square of the errors, with infinitely many. The seeds' models answer the same
    images, so what images contribute is taken not to average out: where seeds err on different images it is too wide.

    Without ``errors`` the seeds' share alone, and no width where all seeds agree. One seed: the images' share alone.
    The ends are NaN where neither is known, or a value or an error is NaN.
    """
    known = np.asarray(values, dtype=float)
    count = len(known)
    mean = float(known.mean()) if count else math.nan
    if count < (2 if errors is None else 1):
        return mean, math.nan, math.nan
    seeds = float(known.var(ddof=1)) / count if count > 1 else 0.0
    images = 0.0 if errors is None else float(np.square(np.asarray(errors, dtype=float)).mean())
    half = half_width([seeds, images], [max(1.0, count - 1.0), math.inf], 1 - LEVEL)
    return mean, mean - half, mean + half
