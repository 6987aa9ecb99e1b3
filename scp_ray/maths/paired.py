"""Is one arm better than another? Differences paired by seed and image, and the fixed words for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from scp_ray.errors import ScpError
from scp_ray.maths.codes import whole_codes
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.metrics import METRICS, observed_metrics
from scp_ray.maths.paired_bootstrap import redrawn_metrics
from scp_ray.maths.rates import Floats, Ints
from scp_ray.maths.units import Units

LEVEL = 0.95
_SMALLEST_P = 1e-15  # below it, t quantiles are no more than rounding


@dataclass(frozen=True)
class PairedDifference:
    """First arm minus second, of one metric: the mean over seeds with its 95 % interval and two-sided p-value.

    ``first`` and ``second`` are the arms' means over seeds; ``seeds`` and ``units`` how many of each there were.
    ``degrees`` are Satterthwaite's of the standard error; not those of the interval, see ``paired_differences``.
    The estimand is the expected difference of newly trained pairs on images of this table's class x group counts;
    with one seed, that of this one pair.
    """

    metric: str
    first: float
    second: float
    difference: float
    standard_error: float
    degrees: float
    low: float
    high: float
    p_value: float
    seeds: int
    units: int


def paired_differences(
    label: Any,
    group: Any,
    first: Any,
    second: Any,
    *,
    num_classes: int,
    unit: Any = None,
    baseline_first: Any = None,
    baseline_second: Any = None,
    floors: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, PairedDifference]:
    """Differences of two arms in f1, eopp0, eopp1, eodd; fate_eodd and excess_<gap> where what they need is given.

    With D_s the difference of the two predictions of seed s, and C the covariance (S, S) of the D_s over redrawn
    images (the same for all predictions, see ``paired_bootstrap``),

        variance of the mean = v_seeds + v_images,  v_seeds = var_s(D_s) / S,  v_images = mean of C off its diagonal

    (no less than 0). var_s(D_s) holds the seeds' noise and what images do to one seed alone; left out is what they do
    to all seeds alike, which is the covariance: the whole bootstrap variance of the mean would count the images' first
    share twice. Half the interval is the root of v_seeds t^2 + v_images u^2, with t and u the quantiles of S - 1
    degrees and of those of the images (Banerjee 1961): one t with Satterthwaite's degrees covers too little at three
    seeds, where v_seeds may be small by chance and the degrees then large. p is the level whose interval ends at 0.
    One seed: C itself, and no seed variance.

    Args:
        label, group: (N,) classes and codes 0 and 1.
        first, second: (S, N) predictions; row s of both is of one training seed.
        num_classes: K.
        unit: (N,) what belongs together and is drawn whole, such as a lesion; where unknown, a code of its own.
        baseline_first, baseline_second: (S, N) predictions that each arm's FATE is relative to.
        floors: by gap, the means (S,) of each arm's permutation null. They are taken as known numbers of their seed:
            how they move with the images is in the seeds' variance, but not in the share common to all seeds.
        draws: redrawn tables.
        seed: of the redrawn tables.

    Returns NaN in all numbers of a metric that is undefined for some seed. Raises ScpError for other shapes.
    """
    y, g = whole_codes(label, "label").ravel(), whole_codes(group, "group").ravel()
    arms = _arms(first, second, baseline_first, baseline_second, images=len(y))
    if len(y) != len(g) or (unit is not None and np.shape(unit) != y.shape):
        raise ScpError(f"label, group and unit must be equally long: {len(y)}, {len(g)}, {np.shape(unit)}.")
    if draws < 2:
        raise ScpError(f"draws must be 2 or more to have a variance, got {draws}.")
    seeds = len(arms[0])
    stacked = np.concatenate(arms)
    seen = observed_metrics(y, g, stacked, num_classes=num_classes)
    units = Units(y, g, unit, num_classes=num_classes)
    rng = np.random.default_rng(seed)
    drawn = redrawn_metrics(y, stacked, units, num_classes=num_classes, draws=draws, rng=rng)
    # by metric: an arm's values (S,) and the same on redrawn images (R, S), for each arm
    values = {name: seen[name].reshape(-1, seeds) for name in METRICS}
    moved = {name: drawn[name].reshape(draws, -1, seeds) for name in METRICS}
    pairs = {name: (values[name][:2], moved[name][:, 0] - moved[name][:, 1]) for name in METRICS}
    if len(arms) == 4:
        pairs["fate_eodd"] = fate_of(values, moved)
    for gap, known in (floors or {}).items():
        if gap not in GAPS or np.shape(known) != (2, seeds):
            raise ScpError(f"floors[{gap!r}] must be (2, {seeds}) means of one of {', '.join(GAPS)}.")
        pairs[f"excess_{gap}"] = (values[gap][:2] - np.asarray(known, dtype=float), pairs[gap][1])
    return {name: difference_of(name, *pair, units=units) for name, pair in pairs.items()}


def satterthwaite(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent variance estimates; infinite where all are 0."""
    shares = sum(v**2 / d for v, d in zip(variances, degrees, strict=True))
    return sum(variances) ** 2 / shares if shares else math.inf


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: max over smaller ones of (m - rank) p, at most 1.

    NaN (a difference that is undefined) stays NaN and does not count as a comparison.
    """
    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1)).any():
        raise ScpError(f"p-values must lie in [0, 1], got {p.tolist()}.")
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return [float(x) for x in adjusted]


def higher_is_better(metric: str) -> bool:
    """Of a metric named by ``paired_differences``."""
    return metric == "f1" or metric.startswith("fate_")


def verdict(difference: float, adjusted_p: float, *, higher_is_better: bool, seeds: int, level: float = 0.05) -> str:
    """What may be said of the first arm: "better", "worse" or "not distinguishable at this n".

    One seed shows nothing of other trainings, so the words then end in "for this one training". An undefined
    difference (NaN) is not distinguishable.
    """
    if seeds < 1:
        raise ScpError(f"a verdict needs at least one seed, got {seeds}.")
    found = adjusted_p < level and difference != 0  # NaN compares as False
    words = "not distinguishable at this n"
    if found:
        words = "better" if (difference > 0) == higher_is_better else "worse"
    return words if seeds > 1 else f"{words} for this one training"


def gap_note(raw: str, excess: str) -> str:
    """Where the verdict on the raw gap differs from that on the excess gap, which holds: why; else nothing."""
    said, held = (words.removesuffix(" for this one training") for words in (raw, excess))
    if said == held:
        return ""
    if said == "better":
        return "the smaller gap is explained by accuracy"
    if said == "worse":
        return "the larger gap is explained by accuracy"
    return "the raw gap does not show it"


def _arms(*predictions: Any, images: int) -> list[Ints]:
    """Two or four arrays (S, N)."""
    arms = [whole_codes(x, "prediction") for x in predictions if x is not None]
    shapes = [x.shape for x in arms]
    if len(arms) == 3:
        raise ScpError("FATE needs the baseline of both arms: baseline_first and baseline_second.")
    if any(len(shape) != 2 or shape != shapes[0] or shape[1] != images or not shape[0] for shape in shapes):
        raise ScpError(f"predictions must be (seeds, {images}), the same seeds in every arm: got {shapes}.")
    return arms


def fate_of(values: dict[str, Floats], moved: dict[str, Floats]) -> tuple[Floats, Floats]:
    """FATE of both arms, (2, S), and the redrawn differences (R, S), to first order around the observed values.

    A redrawn gap is larger than the observed one on average (it is an absolute value), and a ratio of two such would
    move too little. NaN where a baseline's F1 or gap is 0.
    """
    (f1, gap), (f1_moved, gap_moved) = ((x["f1"], x["eodd"]) for x in (values, moved))
    f1_base, gap_base = (np.where(x[2:] == 0, np.nan, x[2:]) for x in (f1, gap))
    fate = f1[:2] / f1_base - gap[:2] / gap_base
    slopes = (f1_moved[:, :2] - f1_moved[:, 2:] * f1[:2] / f1_base) / f1_base
    slopes -= (gap_moved[:, :2] - gap_moved[:, 2:] * gap[:2] / gap_base) / gap_base
    return fate, slopes[:, 0] - slopes[:, 1]


def difference_of(metric: str, arms: Floats, moved: Floats, *, units: Units) -> PairedDifference:
    """Of the arms' values (2, S) and their redrawn differences (R, S); see ``paired_differences``."""
    by_seed = arms[0] - arms[1]
    seeds, difference = len(by_seed), float(by_seed.mean())
    common = np.atleast_2d(np.cov(moved, rowvar=False))
    if seeds > 1:
        between = float(by_seed.var(ddof=1)) / seeds
        images = max(0.0, float(common.sum() - common.trace()) / (seeds * (seeds - 1)))
    else:
        between, images = 0.0, float(common[0, 0])
    variances, freedom = [between, images], [float(max(1, seeds - 1)), units.degrees]
    half, p = _interval(difference, variances, freedom)
    return PairedDifference(
        metric=metric, first=float(arms[0].mean()), second=float(arms[1].mean()), difference=difference,
        standard_error=math.sqrt(between + images), degrees=satterthwaite(variances, freedom),
        low=difference - half, high=difference + half, p_value=p, seeds=seeds, units=units.count,
    )  # fmt: skip


def half_width(variances: Sequence[float], degrees: Sequence[float], level: float) -> float:
    """Of a two-sided interval that misses with probability ``level`` at most; each variance has its own t quantile.

    Source: Banerjee, Sankhya 23 (1961). Exact where only one variance is not 0.
    """
    return math.sqrt(sum(v * float(stdtrit(d, level / 2)) ** 2 for v, d in zip(variances, degrees, strict=True)))


def _interval(difference: float, variances: Sequence[float], degrees: Sequence[float]) -> tuple[float, float]:
    """Half the width of the interval, and the two-sided p-value."""
    total = sum(variances)
    if math.isnan(difference) or math.isnan(total):
        return math.nan, math.nan
    if difference == 0 or total == 0:  # no noise of any kind was seen, or nothing but noise
        return half_width(variances, degrees, 1 - LEVEL), float(difference == 0)

    def beyond(logarithm: float) -> float:
        return half_width(variances, degrees, math.exp(logarithm)) - abs(difference)

    least = math.log(_SMALLEST_P)
    p = _SMALLEST_P if beyond(least) < 0 else math.exp(brentq(beyond, least, 0.0))
    return half_width(variances, degrees, 1 - LEVEL), p
