"""Which points no other point beats, and which of them bends the front most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scp_ray.errors import ScpError

# of a scaled distance: below it a point lies on the chord, not beyond it
_ON_THE_CHORD = 1e-9


def nondominated(points: Any) -> NDArray[np.bool_]:
    """(N, M) points to (N,) True where nothing dominates; lower is better in every column.

    A point dominates another one if it is no worse in all columns and better in one. Points with NaN are never on it.
    Raises ScpError for anything but a matrix.
    """
    values = as_points(points)
    no_worse = (values[:, None] <= values[None, :]).all(axis=2)
    better = (values[:, None] < values[None, :]).any(axis=2)
    dominated = (no_worse & better).any(axis=0)
    front: NDArray[np.bool_] = np.logical_not(np.logical_or(dominated, np.isnan(values).any(axis=1)))
    return front


def pareto_front(gain: Any, cost: Any) -> NDArray[np.bool_]:
    """(N,) gains (higher is better) and costs (lower is better) to (N,) True where nothing dominates."""
    g, c = np.asarray(gain, dtype=float), np.asarray(cost, dtype=float)
    return nondominated(np.stack([-g, c], axis=1))


def knee(points: Any) -> int | None:
    """Which row of a front (N, M), lower is better, bends it most; None where none does.

    Each column is scaled to 0 (the front's best) to 1 (its worst); then it is the point furthest from the chord between
    the two extremes, on the side of the ideal point (0, 0): Das, "On characterizing the knee of the Pareto curve based
    on normal-boundary intersection", Structural Optimization 18 (1999). With M > 2 the chord is the plane through the
    corners where one column is 1 and the others 0. Of a tie the first row. A front of fewer than three points, a
    straight or an inward one has no knee. Rows with NaN are passed over.
    """
    values = as_points(points)
    known = ~np.isnan(values).any(axis=1)
    if known.sum() < 3:
        return None
    best, worst = values[known].min(axis=0), values[known].max(axis=0)
    if not (worst > best).all():
        return None
    scaled = (values - best) / (worst - best)
    beyond = np.where(known, (1 - scaled.sum(axis=1)) / np.sqrt(values.shape[1]), -np.inf)
    furthest = float(beyond.max())
    if furthest <= _ON_THE_CHORD:
        return None
    return int(np.flatnonzero(beyond >= furthest - _ON_THE_CHORD)[0])


def as_points(points: Any) -> NDArray[np.float64]:
    """(N, M) as floats, also of no rows. Raises ScpError."""
    values = np.asarray(points, dtype=float)
    if values.ndim != 2:
        raise ScpError(f"points: got the shape {values.shape}; allowed is a matrix, a row a point (N, M).")
    return values
