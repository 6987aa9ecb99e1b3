"""Power: the smallest difference between two arms that a planned design can detect, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincinv, ndtr

from scp_ray.errors import ScpError
from scp_ray.maths.codes import whole_codes
from scp_ray.maths.paired import half_width
from scp_ray.maths.rates import Floats
from scp_ray.maths.scenarios import METRICS, Point, Scenario, scenario
from scp_ray.maths.units import Units

Range = tuple[float, float]
AROUND = 0.1  # how far accuracy and agreement may lie from what is assumed
_NODES = 2000
_STEPS = 30


@dataclass(frozen=True)
class Design:
    """What is planned and assumed; see ``detectable_difference``."""

    seeds: int
    arms: int
    accuracy: float
    agreement: float
    seed_sd: float
    power: float
    level: float


@dataclass(frozen=True)
class Detectable:
    """Smallest differences found with the wanted power, each (low, high) over the scenarios.

    ``middle`` holds them at the assumed accuracy and agreement; ``floor`` is the range of Eodd of fair arms.
    """

    f1: Range
    eodd: Range
    fate: Range
    middle: dict[str, float]
    floor: Range
    comparisons: int
    design: Design
    scenarios: tuple[Scenario, ...]
    degrees: float

    @property
    def middle_floor(self) -> float:
        """Eodd of fair arms of the assumed accuracy: what a gap is when nothing but chance makes it."""
        return self.scenarios[0].eodd


def detectable_difference(
    label: Any,
    group: Any,
    *,
    num_classes: int,
    seeds: int,
    unit: Any = None,
    accuracy: float = 0.7,
    agreement: float = 0.8,
    seed_sd: float = 0.01,
    arms: int = 1,
    power: float = 0.8,
    level: float = 0.05,
    simulations: int = 200,
    seed: int = 0,
) -> Detectable:
    """The smallest F1, Eodd and FATE differences that ``seeds`` trainings of an arm and the baseline detect.

    Arms are invented on this table (see ``planted_pairs``), which gives the images' share of the variance of
    ``paired_differences``; the power is that of its test. The variance of a gap is taken where the difference is: it
    grows with the gap, since an absolute value that chance alone makes moves less than one that is there. Half of that
    share (``scenarios.SHARED``) is taken to be common to all seeds, so that more seeds do not lessen it. The range is
    that over accuracy and agreement 0.1 lower and higher, as far as they lie in 0.05..0.95. The gap is the raw one; the
    floor means that the excess takes from it move little between arms.

    Args:
        label, group, unit: (N,) of the split that will be compared; see ``paired_differences``.
        num_classes: K.
        seeds: trainings of each arm. With one, the seeds' noise cannot be estimated: the difference is that
            detected between this one pair of trainings.
        accuracy: of both arms, over images.
        agreement: share of images that both arms of a seed answer alike.
        seed_sd: standard deviation over trainings of the paired difference in F1, and in Eodd, for reasons other
            than the images: that of arm less baseline of one seed, whose square over ``seeds`` is the trainings' share
            of the variance of the mean. Where the baseline is the models before pruning it is not that of two pruned
            arms, whose common base cancels. Differences observed on one table hold what its images do to one seed
            too, which is then counted twice: too large, to be careful.
        arms: compared with the baseline, each in F1 and Eodd: Holm over 2 x arms comparisons, the first step.
        power, level: probability of detection, and of a false one.
        simulations: invented tables of each scenario.
        seed: of the simulations.

    Raises ScpError for numbers out of range or a group without images.
    """
    design = Design(seeds, arms, accuracy, agreement, seed_sd, power, level)
    _check(design, simulations)
    y, g = whole_codes(label, "label").ravel(), whole_codes(group, "group").ravel()
    codes = np.arange(len(y)) if unit is None else np.unique(np.asarray(unit), return_inverse=True)[1].ravel()
    if not len(y) == len(g) == len(codes) or len(np.unique(g)) != 2:
        raise ScpError(f"label, group and unit must be equally long and hold both groups, got {np.unique(g)}.")
    rng = np.random.default_rng(seed)
    corners = [(a, b) for a in _near(accuracy) for b in _near(agreement)]
    found = [
        scenario(y, g, codes, num_classes, *corner, tables=simulations, rng=rng)
        for corner in [(accuracy, agreement), *corners]
    ]
    return _detectable(design, tuple(found), Units(y, g, codes, num_classes=num_classes).degrees)


def smallest_difference(
    common: float, own: float, *, seed_sd: float, seeds: int, degrees: float, level: float, power: float
) -> float:
    """The difference whose t test at ``level`` (two-sided) has this power.

    Args:
        common, own: variances of a seed's difference over images, the part that all seeds share and its own.
        seed_sd: standard deviation of the difference over trainings.
        seeds: S.
        degrees: of the images' variances.
    """
    if seeds > 1:
        between, images = (seed_sd**2 + own) / seeds, common
    else:  # of this one pair of trainings
        between, images = 0.0, common + own
    freedom = [float(max(1, seeds - 1)), degrees]
    error = math.sqrt(between + images)
    if error == 0:
        return 0.0
    # half widths of intervals over the seeds' variance, which is chi-squared; that of the images is as good as known
    share = (np.arange(_NODES) + 0.5) / _NODES
    drawn = gammaincinv(freedom[0] / 2, share) * 2 / freedom[0]
    halves = _halves(between * drawn, images, freedom, level)

    def short(difference: float) -> float:  # found the wrong way round is not found
        return float(ndtr((difference - halves) / error).mean()) - power

    return float(brentq(short, 0.0, halves[-1] + 10 * error))


def _where_it_is(points: Sequence[Point], smallest: Callable[[float, float], float]) -> float:
    """The smallest difference, by the variances that there are at that difference: found by going there."""
    at, common, own = np.array(points).T
    difference = 0.0
    for _ in range(_STEPS):
        before, difference = difference, smallest(*(float(np.interp(difference, at, v)) for v in (common, own)))
        if abs(difference - before) <= 1e-4 * difference:
            break
    return difference


def _halves(between: Floats, images: float, degrees: Sequence[float], level: float) -> Floats:
    seeds, rest = (half_width([1.0], [d], level) ** 2 for d in degrees)
    halves: Floats = np.sqrt(between * seeds + images * rest)
    return halves


def with_seeds(found: Detectable, seeds: int) -> Detectable:
    """The same simulations with another number of seeds."""
    return _detectable(replace(found.design, seeds=seeds), found.scenarios, found.degrees)


def with_arms(found: Detectable, arms: int) -> Detectable:
    """The same simulations with another number of arms."""
    return _detectable(replace(found.design, arms=arms), found.scenarios, found.degrees)


def _near(value: float) -> Sequence[float]:
    return [x for x in (value - AROUND, value + AROUND) if 0.05 <= x <= 0.95] or [value]


def _check(design: Design, simulations: int) -> None:
    shares = {name: getattr(design, name) for name in ("accuracy", "agreement", "power", "level")}
    faults = [f"{name} must lie between 0 and 1, got {value}." for name, value in shares.items() if not 0 < value < 1]
    counts = {"seeds": (design.seeds, 1), "arms": (design.arms, 1), "simulations": (simulations, 10)}
    faults += [f"{name} must be {least} or more, got {n}." for name, (n, least) in counts.items() if n < least]
    if not design.seed_sd >= 0:
        faults.append(f"seed_sd must be 0 or more, got {design.seed_sd}.")
    if design.power <= design.level:
        faults.append(f"power must be above level, got {design.power} and {design.level}.")
    if faults:
        raise ScpError(" ".join(faults))


def _detectable(design: Design, scenarios: tuple[Scenario, ...], degrees: float) -> Detectable:
    comparisons = 2 * design.arms
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    for arms in scenarios:
        spread = {"f1": 1.0, "eodd": 1.0, "fate": math.hypot(1 / arms.f1, 1 / arms.eodd)}
        for name in METRICS:
            smallest = partial(
                smallest_difference, seed_sd=design.seed_sd * spread[name], seeds=design.seeds, degrees=degrees,
                level=design.level / comparisons, power=design.power,
            )  # fmt: skip
            found[name].append(_where_it_is(arms.variances[name], smallest))
    ranges = {name: (min(values), max(values)) for name, values in found.items()}
    floors = [arms.eodd for arms in scenarios]
    return Detectable(
        **ranges, middle={name: values[0] for name, values in found.items()}, floor=(min(floors), max(floors)),
        comparisons=comparisons, design=design, scenarios=scenarios, degrees=degrees,
    )  # fmt: skip
