"""Intervals and the race, by hand."""

from __future__ import annotations

import math

import pytest

from scp_ray.tune.racing import Measured, estimates, in_the_race, mean_of


def one(*values: float, violations: tuple[float, ...] = ()) -> list[Measured]:
    """A configuration of one objective, a value a seed."""
    return [Measured((value,), violations) for value in values]


def test_the_mean_over_seeds() -> None:
    seeds = [Measured((1.0, -4.0), (0.5,)), Measured((2.0, -6.0), (-0.1,))]
    assert mean_of(seeds) == Measured((1.5, -5.0), (0.2,))


def test_the_variance_is_pooled_over_configurations() -> None:
    """Sums of squares: (1, 3) -> 2, (10, 12, 14) -> 8, so variance 10 / 3 with 3 degrees of freedom.

    t(0.975, 3) = 3.182446; half widths 3.182446 * sqrt(10/3 / n), n = 2, 3 and 1.
    """
    found = estimates({0: one(1, 3), 1: one(10, 12, 14), 2: one(7)})
    assert [float(found[at].costs[0]) for at in range(3)] == [2, 12, 7]
    halves = [float(found[at].cost_half[0]) for at in range(3)]
    assert halves == pytest.approx([4.108521, 3.354594, 5.810326], abs=1e-5)


def test_without_a_second_seed_nothing_is_known_and_all_race() -> None:
    found = estimates({0: one(0.0), 1: one(100.0)})
    assert math.isinf(found[0].cost_half[0])
    assert in_the_race(1, found)


def test_of_one_objective_those_race_whose_interval_reaches_the_best() -> None:
    """Variance 2 with 2 degrees of freedom (1, 3 and 11, 13), t = 4.302653: half widths 4.302653, of one seed 6.084870.

    Means 2, 12 and 12: 2 + 4.30 < 12 - 4.30, so the second is out; 2 + 4.30 > 12 - 6.08, so the third may still win.
    """
    found = estimates({0: one(1, 3), 1: one(11, 13), 2: one(12), 3: one(12.5)})
    assert [in_the_race(at, found) for at in range(4)] == [True, False, True, False]


def two(f1: float, gap: float, spread: float = 0.0) -> list[Measured]:
    """Two seeds around (-f1, gap)."""
    return [Measured((-f1 + sign * spread, gap + sign * spread)) for sign in (-1, 1)]


def test_of_several_objectives_only_what_is_dominated_beyond_its_interval_is_out() -> None:
    """Every configuration: squares 2 * 0.01**2 each, variance 2e-4 with 4 df; half width 2.776 * 0.01 = 0.0278."""
    points = {
        0: two(0.80, 0.10, 0.01),
        1: two(0.90, 0.30, 0.01),
        2: two(0.70, 0.20, 0.01),  # worse than 0 by 0.10 in both: more than 0.0555
        3: two(0.77, 0.13, 0.01),  # worse in both, but only by 0.03
    }
    found = estimates(points)
    assert float(found[0].cost_half[0]) == pytest.approx(2.776445 * 0.01, rel=1e-5)
    assert [in_the_race(at, found) for at in points] == [True, True, False, True]


def test_worse_in_one_objective_alone_is_no_domination() -> None:
    found = estimates({0: two(0.8, 0.1, 1e-6), 1: two(0.9, 0.9, 1e-6), 2: two(0.1, 0.1, 1e-6)})
    assert in_the_race(1, found)
    assert in_the_race(2, found)  # its gap is as good as the first one's


def test_who_misses_a_constraint_is_out_and_puts_nobody_else_out() -> None:
    """Equal seeds: intervals of width 0. The second is best, but misses its constraint by 0.1."""
    kept, missed = (-0.1,), (0.1,)
    found = estimates({0: one(2, 2, violations=kept), 1: one(1, 1, violations=missed), 2: one(3, 3, violations=kept)})
    assert in_the_race(0, found)
    assert not in_the_race(1, found)
    assert not in_the_race(2, found)  # because of the first
