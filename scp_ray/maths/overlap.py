"""How alike two sets of channels are, and how alike they would be by chance."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from scipy.stats import hypergeom

from scp_ray.errors import ScpError


def jaccard(first: Set[int], second: Set[int]) -> float:
    """|A and B| / |A or B|; NaN of two empty sets."""
    either = len(first | second)
    return len(first & second) / either if either else float("nan")


def chance_jaccard(first: int, second: int, channels: int) -> float:
    """Expected Jaccard index of random sets of these sizes, each drawn from the same C channels; exact.

    The size of the intersection is hypergeometric: with m of C and n of C channels it is k with probability
    C(m, k) C(C - m, n - k) / C(C, n), and the index then k / (m + n - k). NaN of two empty sets.
    Raises ScpError for sizes below 0 or above C.
    """
    shared, chance = _intersections(first, second, channels)
    if first + second == 0:
        return float("nan")
    return float(np.sum(chance * shared / (first + second - shared)))


def chance_jaccard_band(first: int, second: int, channels: int, *, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of that distribution: the index at its lower and upper quantile. NaN of two empty sets."""
    shared, chance = _intersections(first, second, channels)
    if first + second == 0:
        return float("nan"), float("nan")
    upto = np.cumsum(chance)
    index = shared / (first + second - shared)  # grows with the intersection
    ends = ((1 - level) / 2, (1 + level) / 2)
    low, high = (float(index[min(int(np.searchsorted(upto, end)), len(index) - 1)]) for end in ends)
    return low, high


def _intersections(first: int, second: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Every possible size of the intersection, and its probability."""
    if not (0 <= first <= channels and 0 <= second <= channels):
        raise ScpError(f"set sizes: got {first} and {second}; allowed are 0 to {channels}, the number of channels.")
    shared = np.arange(max(0, first + second - channels), min(first, second) + 1)
    return shared, hypergeom.pmf(shared, channels, first, second)
