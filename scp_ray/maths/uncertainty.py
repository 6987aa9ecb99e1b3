"""How far a metric of one set of predictions can be believed: its noise floor and its standard error.

The floor is the permutation null of these very predictions, since it depends on a model's accuracy and on how its
errors spread over classes. The estimand of a standard error and its interval is the expected value of the metric on
this table's class x group counts. Whether a gap is more than noise the permutation test says, never an interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scp_ray.errors import ScpError
from scp_ray.maths.codes import whole_codes
from scp_ray.maths.kinds import Kinds
from scp_ray.maths.metrics import observed_metrics
from scp_ray.maths.rates import NAMES, Floats
from scp_ray.maths.redrawn import permuted_gaps, standard_errors
from scp_ray.maths.units import Units
from scp_ray.seeds import derive_seed

FLOORED = ("eopp0", "eopp1", "eodd", "eodd_sum_abs")  # gaps: what is 0 for equal rates, and above it for noise alone
EVIDENCE = ("f1", *FLOORED)
NORMAL = 1.959963984540054  # two-sided 95 %
_TIE = 1e-12  # sums in another order differ by less


@dataclass(frozen=True)
class NoiseFloor:
    """A gap beside what it is when groups are permuted inside each class, predictions fixed."""

    observed: float
    mean: float
    low: float  # of the middle 95 % of permutations
    high: float
    p_value: float  # share of permutations with a gap as large, the observed one counted among them
    excess: float  # observed minus mean: what accuracy and class counts do not explain


@dataclass(frozen=True)
class Evidence:
    """What can be said of one metric of one set of predictions; the floor's fields are NaN for F1."""

    metric: str
    observed: float
    floor_mean: float
    floor_low: float
    floor_high: float
    p: float
    excess: float
    standard_error: float
    low: float  # observed -+ 1.96 standard errors
    high: float
    permutations: int
    draws: int
    seed: int


def noise_floor(
    label: Any,
    prediction: Any,
    group: Any,
    *,
    gap: str = "eodd",
    num_classes: int,
    unit: Any = None,
    permutations: int = 1000,
    seed: int = 0,
) -> NoiseFloor:
    """The permutation null of a gap of predictions (N,) against labels (N,) in groups (N,) of codes 0 and 1.

    Args:
        gap: eopp0, eopp1, eodd (the published readings) or eodd_sum_abs.
        num_classes: K.
        unit: (N,) what belongs together (lesion, else patient): permuted whole, inside its class; by default each
            image by itself. Of a unit with several classes or groups, the images of each are one part.
        permutations: R, at least 20.
        seed: of the permutations.

    Raises ScpError for other names, shapes or codes, or where a group has no images.
    """
    if gap not in FLOORED:
        raise ScpError(f"gap: got {gap!r}; allowed is one of {', '.join(FLOORED)}.")
    table = _Table(label, prediction, group, unit, num_classes)
    if table.undefined:
        raise ScpError("one of the groups has no images: there is no gap to compare.")
    return table.floors([gap], permutations, seed)[gap]


def evidence(
    label: Any,
    prediction: Any,
    group: Any,
    *,
    num_classes: int,
    unit: Any = None,
    permutations: int = 1000,
    draws: int = 1000,
    seed: int = 0,
) -> list[Evidence]:
    """Of F1 and of every gap: noise floor, standard error, interval. One permutation serves all gaps.

    Arguments as for ``noise_floor``; ``draws`` are those of the smoothed bootstrap, in which whole units are drawn
    within their class and group, and thin cells from their class (see ``units.Units``). Where a group has
    no images all is NaN.

    Raises ScpError for other shapes or codes.
    """
    table = _Table(label, prediction, group, unit, num_classes)
    counts = (permutations, draws, seed)
    if table.undefined:
        return [_unknown(name, *counts) for name in EVIDENCE]
    floors = table.floors(FLOORED, permutations, seed)
    errors = table.standard_errors(draws, seed, floors)
    found = []
    for name in EVIDENCE:
        known, error = _unknown(name, *counts), errors[name]
        if name in floors:
            floor = floors[name]
            known = replace(known, floor_mean=floor.mean, floor_low=floor.low, floor_high=floor.high)
            known = replace(known, p=floor.p_value, excess=floor.excess)
        observed = table.observed[name]
        low, high = observed - NORMAL * error, observed + NORMAL * error
        found.append(replace(known, observed=observed, standard_error=error, low=low, high=high))
    return found


def _unknown(metric: str, permutations: int, draws: int, seed: int) -> Evidence:
    nan = math.nan
    return Evidence(metric, nan, nan, nan, nan, nan, nan, nan, nan, nan, permutations, draws, seed)


class _Table:
    """Checked arrays, their units, and the metrics as observed."""

    def __init__(self, label: Any, prediction: Any, group: Any, unit: Any, num_classes: int) -> None:
        y, p, g = (whole_codes(x, name).ravel() for x, name in zip((label, prediction, group), NAMES, strict=True))
        if not 0 < len(y) == len(p) == len(g) or (unit is not None and len(unit) != len(y)):
            lengths = [len(y), len(p), len(g)] + ([] if unit is None else [len(unit)])
            raise ScpError(f"label, prediction, group and unit must be equally long and not empty, got {lengths}.")
        seen = observed_metrics(y, g, p[None], num_classes=num_classes)  # refuses codes out of range
        self.observed = {name: float(seen[name][0]) for name in EVIDENCE}
        self.undefined = len(np.unique(g)) < 2
        units = Units(y, g, None if unit is None else _known(unit), num_classes=num_classes)
        self.kinds = Kinds(y, p, units, num_classes=num_classes)

    def floors(self, names: Iterable[str], permutations: int, seed: int) -> dict[str, NoiseFloor]:
        """Of the gaps of these names, one permutation for all."""
        if permutations < 20:
            raise ScpError(f"permutations: got {permutations}; allowed are 20 or more, for a band of 95 %.")
        rng = np.random.default_rng(derive_seed(seed, "permutations"))
        null = permuted_gaps(self.kinds, names, permutations, rng)
        return {name: _floor(self.observed[name], values) for name, values in null.items()}

    def standard_errors(self, draws: int, seed: int, floors: dict[str, NoiseFloor]) -> dict[str, float]:
        """Of every metric."""
        if draws < 2:
            raise ScpError(f"draws: got {draws}; allowed are 2 or more.")
        noise = {name: _noise_share(floor) for name, floor in floors.items()}
        return standard_errors(self.kinds, noise, draws, np.random.default_rng(derive_seed(seed, "draws")))


def _known(unit: Any) -> Any:
    """The units, refused where one is missing: all images without one would be taken for a single unit."""
    units = np.asarray(unit).ravel()
    missing = int(np.count_nonzero(units != units))
    if units.dtype == object:
        missing += sum(x is None for x in units)
    if missing:
        raise ScpError(f"unit: {missing} images have none (NaN or None); give each of them a name of its own.")
    return units


def _noise_share(floor: NoiseFloor) -> float:
    """How much of a squared gap its noise floor explains, 0..1."""
    return min(1.0, (floor.mean / floor.observed) ** 2) if floor.observed else 1.0


def _floor(observed: float, null: Floats) -> NoiseFloor:
    low, high = np.quantile(null, [0.025, 0.975])
    as_large = int((null >= observed - _TIE).sum())
    mean = float(null.mean())
    return NoiseFloor(observed, mean, float(low), float(high), (1 + as_large) / (1 + len(null)), observed - mean)
