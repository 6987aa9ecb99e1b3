"""What a metric of one set of predictions is when groups are permuted, and how far it moves with the images drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from scp_ray.maths import gaps
from scp_ray.maths.kinds import Kinds
from scp_ray.maths.rates import Floats, f1_mean
from scp_ray.maths.units import Units

_CELLS_AT_ONCE = 500_000  # weights held at a time


def permuted_gaps(kinds: Kinds, names: Iterable[str], permutations: int, rng: np.random.Generator) -> dict[str, Floats]:
    """(permutations,) values of each gap."""
    found: dict[str, list[Floats]] = {name: [] for name in names}
    for size in _chunks(permutations, kinds):
        counts = kinds.counts(kinds.permuted(size, rng))
        for name, parts in found.items():
            parts.append(np.abs(gaps.terms(name, counts, kinds.classes)).sum(-1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def standard_errors(kinds: Kinds, noise: Mapping[str, float], draws: int, rng: np.random.Generator) -> dict[str, float]:
    """Of F1 and of each gap in ``noise``: the share of its square, 0..1, that its noise floor explains.

    A class whose groups lie far apart moves a gap as its signed difference moves, one whose groups are alike by less,
    as absolute values do. Redrawn classes lie nearer to each other than true ones, as thin cells are drawn from their
    whole class, so the variance of the redrawn gap alone is too small for large gaps. It is mixed with that of the sum
    of differences, each with the sign that was observed.
    """
    seen = kinds.counts(kinds.count[None].astype(float))
    signs = {name: np.where(gaps.terms(name, seen, kinds.classes) < 0, -1.0, 1.0) for name in noise}
    folded: dict[str, list[Floats]] = {name: [] for name in ("f1", *noise)}
    signed: dict[str, list[Floats]] = {name: [] for name in noise}
    for size in _chunks(draws, kinds):
        counts = kinds.counts(kinds.redrawn(size, rng))
        folded["f1"].append(f1_mean(counts))
        for name in noise:
            terms = gaps.terms(name, counts, kinds.classes)
            folded[name].append(np.abs(terms).sum(-1))
            signed[name].append((terms * signs[name]).sum(-1))
    variance = {"f1": _variance(folded["f1"]) * thin_classes(kinds.units)}
    for name, share in noise.items():
        variance[name] = share * _variance(folded[name]) + (1 - share) * _variance(signed[name])
    return {name: math.sqrt(value) for name, value in variance.items()}


def thin_classes(units: Units) -> float:
    """What makes up for classes of few units in a variance that is a sum over classes, at least 1.

    The n units of a class, redrawn from themselves, spread by 1 - 1/n of what units drawn anew would; a class weighs
    in a macro average's variance by 1/n. Of units of several images, n is the number of equal ones that tell as much.
    """
    classes = units.cell // 2
    images, squares = np.bincount(classes, units.size), np.bincount(classes, units.size**2)
    lone = squares[images > 0] / images[images > 0] ** 2  # 1/n of each class
    kept = float((lone * (1 - lone)).sum())
    return float(lone.sum()) / kept if kept else 1.0


def _chunks(count: int, kinds: Kinds) -> Iterator[int]:
    """How many tables to make at a time."""
    most = max(1, _CELLS_AT_ONCE // (2 * max(kinds.classes, len(kinds.label))))
    for start in range(0, count, most):
        yield min(most, count - start)


def _variance(parts: list[Floats]) -> float:
    return float(np.concatenate(parts).var(ddof=1))
