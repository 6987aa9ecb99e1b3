"""Which points no other point beats."""

from __future__ import annotations

import pytest

from scp_ray.maths.pareto import pareto_front

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
