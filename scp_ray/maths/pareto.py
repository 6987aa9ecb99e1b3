"""Which points no other point beats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pareto_front(gain: Any, cost: Any) -> NDArray[np.bool_]:
    """(N,) gains (higher is better) and costs (lower is better) to (N,) True where nothing dominates.

    A point dominates another one if it is no worse in both and better in one. Points with NaN are never on it.
    """
    g, c = np.asarray(gain, dtype=float), np.asarray(cost, dtype=float)
    no_worse = (g[:, None] >= g[None, :]) & (c[:, None] <= c[None, :])
    better = (g[:, None] > g[None, :]) | (c[:, None] < c[None, :])
    dominated = (no_worse & better).any(axis=0)
    front: NDArray[np.bool_] = ~(dominated | np.isnan(g) | np.isnan(c))
    return front
