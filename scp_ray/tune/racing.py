"""Which configurations deserve another seed: those whose interval still reaches the front. Arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What one seed of a configuration gave."""

    costs: tuple[float, ...]  # the objectives, each turned so that less is better
    violations: tuple[float, ...] = ()  # at most 0 where a constraint is kept


@dataclass(frozen=True)
class Estimate:
    """Means over a configuration's seeds, and the half widths of their intervals (infinite where nothing is known)."""

    costs: Vector  # (M,)
    violations: Vector  # (C,)
    cost_half: Vector
    violation_half: Vector

    @property
    def feasible(self) -> bool:
        """Whether every constraint is kept by the mean."""
        return bool((self.violations <= 0).all())


def mean_of(seeds: Sequence[Measured]) -> Measured:
    """What a configuration is worth: the mean over its seeds."""
    costs, violations = np.array([each.costs for each in seeds]), np.array([each.violations for each in seeds])
    return Measured(tuple(costs.mean(axis=0).tolist()), tuple(violations.mean(axis=0).tolist()))


def estimates(measured: Mapping[int, Sequence[Measured]]) -> dict[int, Estimate]:
    """Each configuration's means with 95 % intervals.

    The variance over seeds is pooled over configurations: sum of squares within them over sum of (seeds - 1) degrees
    of freedom; a half width is t(0.975, df) sqrt(variance / seeds). Without any configuration of two seeds it is
    infinite.
    """
    values = {
        number: np.array([[*each.costs, *each.violations] for each in seeds])
        for number, seeds in measured.items()
        if seeds
    }
    df = sum(len(rows) - 1 for rows in values.values())
    found = {}
    for number, rows in values.items():
        mean = rows.mean(axis=0)
        half = np.full(len(mean), math.inf)
        if df:
            squares = sum(((other - other.mean(axis=0)) ** 2).sum(axis=0) for other in values.values())
            half = stats.t.ppf(0.5 + CONFIDENCE / 2, df) * np.sqrt(squares / df / len(rows))
        split = len(measured[number][0].costs)
        found[number] = Estimate(mean[:split], mean[split:], half[:split], half[split:])
    return found


def in_the_race(number: int, among: Mapping[int, Estimate]) -> bool:
    """Whether a configuration may still belong to the front.

    It does not where a constraint is missed by more than the interval, or where another configuration, which keeps
    every constraint, is better in every objective by more than both half widths together. With one objective that
    is: where its interval does not overlap the best one's.
    """
    mine = among[number]
    if (mine.violations > mine.violation_half).any():
        return False
    return not any(
        other.feasible and bool((other.costs + other.cost_half < mine.costs - mine.cost_half).all())
        for key, other in among.items()
        if key != number
    )
