"""Which points no other point beats."""

from __future__ import annotations

import pytest

from scp_ray.errors import ScpError
from scp_ray.maths.pareto import knee, nondominated, pareto_front

NAN = float("nan")


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0.5, 0.1)], [True]),
        ([(0.5, 0.1), (0.6, 0.2), (0.4, 0.05)], [True, True, True]),
        ([(0.5, 0.1), (0.6, 0.1)], [False, True]),  # the same gap, a better F1
        ([(0.5, 0.1), (0.5, 0.2)], [True, False]),  # the same F1, a smaller gap
        ([(0.5, 0.1), (0.5, 0.1), (0.4, 0.2)], [True, True, False]),  # duplicates stand together
        ([(0.5, 0.1), (NAN, 0.0), (0.9, NAN), (0.4, 0.1)], [True, False, False, False]),
        ([(NAN, NAN)], [False]),
        ([], []),
    ],
)
def test_pareto_front(points, expected):
    gains, costs = [point[0] for point in points], [point[1] for point in points]
    assert pareto_front(gains, costs).tolist() == expected


def test_three_columns_are_compared_in_all():
    points = [(1, 2, 3), (1, 2, 4), (0, 9, 9), (2, 1, 3), (1, 2, 3), (NAN, 0, 0)]
    assert nondominated(points).tolist() == [True, False, True, True, True, False]


def test_points_have_to_be_a_matrix():
    with pytest.raises(ScpError, match=r"shape \(2,\); allowed is a matrix"):
        nondominated([0.0, 1.0])


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        # extremes (0, 10) and (4, 0): scaled, the others are (1/4, 1/5) and (1/2, 1/10): 1 - x - y is 0.55 and 0.4
        ([(0, 10), (1, 2), (2, 1), (4, 0)], 1),
        ([(4, 0), (2, 1), (1, 2), (0, 10)], 2),
        ([(0, 4), (1, 1), (4, 0), (1, 1)], 1),  # of a tie the first
        ([(0, 4), (NAN, 0), (1, 1), (4, 0)], 2),
        ([(0, 2), (1, 1), (2, 0)], None),  # on the chord
        ([(0, 2), (1.5, 1.5), (2, 0)], None),  # bent away from the ideal
        ([(0, 2), (2, 0)], None),
        ([(1, 1), (1, 1), (1, 1)], None),
        ([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.2, 0.2, 0.2), (0.1, 0.2, 0.2)], 4),
    ],
)
def test_knee(front, expected):
    assert knee(front) == expected
