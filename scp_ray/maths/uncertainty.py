"""How far a metric of one set of predictions can be believed: its noise floor and its standard error.

The floor is the permutation null of these very predictions, since it depends on a model's accuracy and on how its
errors spread over classes. The estimand of a standard error and its interval is the expected value of the metric on
this table's class x group counts. Whether a gap is more than noise the permutation test says, never an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scp_ray.errors import ScpError
from scp_ray.maths import gaps
from scp_ray.maths.paired_bootstrap import Answers, Units, observed_metrics
from scp_ray.maths.permutation import as_weights, permuted_codes
from scp_ray.maths.rates import Floats, f1_mean
from scp_ray.seeds import derive_seed

FLOORED = ("eopp0", "eopp1", "eodd", "eodd_sum_abs")  # gaps: what is 0 for equal rates, and above it for noise alone
EVIDENCE = ("f1", *FLOORED)
NORMAL = 1.959963984540054  # two-sided 95 %
_CELLS_AT_ONCE = 1_000_000  # counts held at a time, eight tables of them with what the metrics make
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
    return table.floors(permutations, seed)[gap]


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
    within their class and group, and thin cells from their class (see ``paired_bootstrap.Units``). Where a group has
    no images all is NaN.

    Raises ScpError for other shapes or codes.
    """
    table = _Table(label, prediction, group, unit, num_classes)
    counts = (permutations, draws, seed)
    if table.undefined:
        return [_unknown(name, *counts) for name in EVIDENCE]
    floors = table.floors(permutations, seed)
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
        y, p, g = (np.asarray(x).astype(np.int64, copy=False).ravel() for x in (label, prediction, group))
        if not 0 < len(y) == len(p) == len(g) or (unit is not None and len(unit) != len(y)):
            lengths = [len(y), len(p), len(g)] + ([] if unit is None else [len(unit)])
            raise ScpError(f"label, prediction, group and unit must be equally long and not empty, got {lengths}.")
        self.label, self.prediction, self.classes = y, p, num_classes
        seen = observed_metrics(y, g, p[None], num_classes=num_classes)  # refuses codes out of range
        self.observed = {name: float(seen[name][0]) for name in EVIDENCE}
        self.undefined = len(np.unique(g)) < 2
        self.units = Units(y, g, unit, num_classes=num_classes)

    def floors(self, permutations: int, seed: int) -> dict[str, NoiseFloor]:
        """Of every gap."""
        if permutations < 20:
            raise ScpError(f"permutations: got {permutations}; allowed are 20 or more, for a band of 95 %.")
        codes = permuted_codes(self.units, permutations, np.random.default_rng(derive_seed(seed, "permutations")))
        answers = Answers(self.label, self.prediction[None], self.units, num_classes=self.classes)
        null = answers.metrics(as_weights(codes))
        return {name: _floor(self.observed[name], null[name][:, 0]) for name in FLOORED}

    def standard_errors(self, draws: int, seed: int, floors: Mapping[str, NoiseFloor]) -> dict[str, float]:
        """Of every metric, from redrawn units.

        A class whose groups lie far apart moves a gap as its difference moves, one whose groups are alike by less,
        as absolute values do. Redrawn classes lie nearer to each other than true ones, as thin cells are drawn from
        their whole class, so the second variance alone is too small for large gaps. The two are mixed by the share
        of the squared gap that its noise floor explains.
        """
        if draws < 2:
            raise ScpError(f"draws: got {draws}; allowed are 2 or more.")
        rng = np.random.default_rng(derive_seed(seed, "draws"))
        answers = Answers(self.label, self.prediction[None], self.units, num_classes=self.classes)
        seen = answers.counts(as_weights((self.units.cell % 2).astype(np.uint8)[None]))
        signs = {name: np.where(gaps.terms(name, seen, self.classes) < 0, -1.0, 1.0) for name in FLOORED}
        drawn: dict[str, list[Floats]] = {name: [] for name in (*EVIDENCE, *(f"signed {name}" for name in FLOORED))}
        chunk = max(1, _CELLS_AT_ONCE // (2 * self.classes))
        for start in range(0, draws, chunk):
            counts = answers.counts(self.units.weights(min(chunk, draws - start), rng))
            drawn["f1"].append(f1_mean(counts))
            for name in FLOORED:
                terms = gaps.terms(name, counts, self.classes)
                drawn[name].append(np.abs(terms).sum(-1))
                drawn[f"signed {name}"].append((terms * signs[name]).sum(-1))
        variance = {name: float(np.concatenate(parts).var(ddof=1)) for name, parts in drawn.items()}
        found = {"f1": math.sqrt(variance["f1"])}
        for name in FLOORED:
            noise = min(1.0, (floors[name].mean / floors[name].observed) ** 2) if floors[name].observed else 1.0
            found[name] = math.sqrt(noise * variance[name] + (1 - noise) * variance[f"signed {name}"])
        return found


def _floor(observed: float, null: Floats) -> NoiseFloor:
    low, high = np.quantile(null, [0.025, 0.975])
    as_large = int((null >= observed - _TIE).sum())
    mean = float(null.mean())
    return NoiseFloor(observed, mean, float(low), float(high), (1 + as_large) / (1 + len(null)), observed - mean)
