"""Wilson's interval of a share."""

from __future__ import annotations

from typing import Any

import numpy as np

from scp_ray.errors import ScpError
from scp_ray.maths.rates import Floats
from scp_ray.maths.uncertainty import NORMAL


def wilson(share: Any, n: Any, *, normal: float = NORMAL) -> tuple[Floats, Floats]:
    """Low and high end of a share of n independent trials, by default at 95 %; arrays of one shape.

    The shares whose distance from what was seen is ``normal`` of their own standard errors: Wilson, "Probable
    inference, the law of succession, and statistical inference", JASA 22 (1927). It stays within 0 and 1, also of few
    trials. NaN where n is 0. The share need not be a whole count over n: it may be a mean over models that answered the
    same images. Raises ScpError for shares outside 0..1 and negative n.
    """
    p, count = np.broadcast_arrays(np.asarray(share, dtype=float), np.asarray(n, dtype=float))
    if ((p < 0) | (p > 1)).any() or (count < 0).any():
        raise ScpError(f"share and n: got {share!r} of {n!r}; allowed are shares of 0 to 1 and counts from 0 on.")
    with np.errstate(invalid="ignore", divide="ignore"):
        z2n = normal**2 / count
        centre = (p + z2n / 2) / (1 + z2n)
        half = np.sqrt(z2n * (p * (1 - p) + z2n / 4)) / (1 + z2n)
    unknown = count == 0
    low, high = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)
