"""How much of the objectives' space a set of points dominates: one number for a whole front."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scp_ray.errors import ScpError
from scp_ray.maths.pareto import as_points, nondominated


def hypervolume(points: Any, reference: Any) -> float:
    """The volume that points (N, M) dominate below ``reference`` (M,); lower is better in every column.

    It is exact: cut into slices along the last column, each as thick as the step to the next point and as large as what
    the points up to there dominate in the other columns (While, Hingston, Barone and Huband, "A faster algorithm for
    calculating hypervolume", IEEE Trans. Evol. Comp. 10, 2006). The time grows with N^(M-1): meant for fronts of a
    search, with few columns. A point that is not below the reference in every column, or has NaN, adds nothing; no
    points have volume 0. Raises ScpError where the shapes do not match or the reference is not finite.
    """
    values, corner = as_points(points), np.asarray(reference, dtype=float)
    if corner.shape != values.shape[1:] or not np.isfinite(corner).all() or not len(corner):
        raise ScpError(
            f"reference: got {corner.tolist()} for points of {values.shape[1]} columns; allowed is a finite number for "
            "each column, at least one."
        )
    inside = values[(values < corner).all(axis=1)]
    return _sliced(inside[nondominated(inside)], corner)


def _sliced(points: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(corner[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    heights = np.append(points[:, -1], corner[-1])
    volume = 0.0
    for upto in range(1, len(points) + 1):
        thickness = float(heights[upto] - heights[upto - 1])
        if thickness > 0:
            below = points[:upto, :-1]
            volume += thickness * _sliced(below[nondominated(below)], corner[:-1])
    return volume
