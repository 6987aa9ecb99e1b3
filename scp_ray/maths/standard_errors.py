"""How far each metric of one set of predictions moves with the images drawn: a smoothed bootstrap of whole units."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from scp_ray.maths import gaps
from scp_ray.maths.paired_bootstrap import Answers, Units
from scp_ray.maths.permutation import as_weights
from scp_ray.maths.rates import Floats, f1_mean

_CELLS_AT_ONCE = 500_000  # weights held at a time


def standard_errors(
    answers: Answers, noise: Mapping[str, float], draws: int, rng: np.random.Generator
) -> dict[str, float]:
    """Of F1 and of each gap in ``noise``: the share of its square, 0..1, that its noise floor explains.

    A class whose groups lie far apart moves a gap as its signed difference moves, one whose groups are alike by less,
    as absolute values do. Redrawn classes lie nearer to each other than true ones, as thin cells are drawn from their
    whole class, so the variance of the redrawn gap alone is too small for large gaps. It is mixed with that of the sum
    of differences, each with the sign that was observed.
    """
    units, classes = answers.units, answers.classes
    seen = answers.counts(as_weights((units.cell % 2).astype(np.uint8)[None]))
    signs = {name: np.where(gaps.terms(name, seen, classes) < 0, -1.0, 1.0) for name in noise}
    folded: dict[str, list[Floats]] = {name: [] for name in ("f1", *noise)}
    signed: dict[str, list[Floats]] = {name: [] for name in noise}
    chunk = max(1, _CELLS_AT_ONCE // (2 * max(classes, len(units.cell))))
    for start in range(0, draws, chunk):
        counts = answers.counts(units.weights(min(chunk, draws - start), rng))
        folded["f1"].append(f1_mean(counts))
        for name in noise:
            terms = gaps.terms(name, counts, classes)
            folded[name].append(np.abs(terms).sum(-1))
            signed[name].append((terms * signs[name]).sum(-1))
    variance = {"f1": _variance(folded["f1"]) * thin_classes(units)}
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


def _variance(parts: list[Floats]) -> float:
    return float(np.concatenate(parts).var(ddof=1))
