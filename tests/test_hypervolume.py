"""What a front dominates: boxes by hand, and chance."""

from __future__ import annotations

import numpy as np
import pytest

from scp_ray.errors import ScpError
from scp_ray.maths.hypervolume import hypervolume

NAN = float("nan")


@pytest.mark.parametrize(
    ("points", "reference", "expected"),
    [
        ([(2.0,), (3.0,)], (5.0,), 3),
        ([(1, 1)], (3, 4), 2 * 3),
        # three steps of a stair below (4, 4): 1 x 1, then 2 x 2 - 1 x 1, ...: columns [1,2): 1, [2,3): 2, [3,4): 3
        ([(1, 3), (2, 2), (3, 1)], (4, 4), 1 + 2 + 3),
        ([(1, 3), (2, 2), (3, 1), (3, 3), (2, 2)], (4, 4), 6),  # dominated and doubled points add nothing
        ([(1, 3), (2, 4), (5, 0)], (4, 4), 3 * 1),  # on the edge of the reference, or beyond
        ([(1, 3), (NAN, 0)], (4, 4), 3),
        # two boxes of 2 x 2 x 1 and 1 x 1 x 2 below (2, 2, 2) that share 1 x 1 x 1
        ([(0, 0, 1), (1, 1, 0)], (2, 2, 2), 4 + 2 - 1),
        ([(0, 0, 0, 0), (0, 0, 0, 0)], (2, 3, 4, 5), 120),
        # 4-D: 1x2x2x2 and 2x1x1x1 below (2, 2, 2, 2), sharing 1
        ([(1, 0, 0, 0), (0, 1, 1, 1)], (2, 2, 2, 2), 8 + 2 - 1),
    ],
)
def test_boxes(points, reference, expected):
    assert hypervolume(points, reference) == pytest.approx(expected)


def test_no_points_dominate_nothing():
    assert hypervolume(np.empty((0, 2)), (1, 1)) == 0


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_share_of_random_darts_that_a_point_dominates(columns):
    draw = np.random.default_rng(columns)
    points, darts = draw.random((12, columns)), draw.random((100_000, columns))
    hit = (points[:, None] <= darts[None]).all(axis=2).any(axis=0).mean()
    assert hypervolume(points, np.ones(columns)) == pytest.approx(hit, abs=4 * np.sqrt(hit * (1 - hit) / len(darts)))


@pytest.mark.parametrize(
    ("points", "reference"), [([(1, 1)], (2,)), ([(1, 1)], (2, np.inf)), (np.empty((0, 0)), ()), ([(1,)], (NAN,))]
)
def test_a_reference_that_does_not_fit_is_refused(points, reference):
    with pytest.raises(ScpError, match="allowed is a finite number for each column"):
        hypervolume(points, reference)
