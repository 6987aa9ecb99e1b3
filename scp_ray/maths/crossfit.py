"""A round that was chosen on the very images that it is tested on looks better than it is: choose it without them.

Cross-fitting: the images are dealt into folds of whole units. For each fold the round is chosen on all other images,
and answers the images of that fold alone. Every image is then answered by a round that it had no say in, so what is
counted of these answers is what the procedure (train, choose a round, use it) gives on new images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scp_ray.maths.metrics import metrics_of
from scp_ray.maths.rates import Counts, Floats, Ints, many_counts
from scp_ray.seeds import derive_seed

FOLDS = 10
Chooser = Callable[[dict[str, Floats]], int]  # metrics of all rounds, each (R,), to the place of one


def deal_folds(label: Any, group: Any, unit: Any, *, folds: int = FOLDS) -> Ints:
    """(N,) each image's fold, 0 .. folds - 1: the same for all models that are asked about these images in this order.

    Whole units, whatever they are called; those of one class and group (of their first image) are spread evenly, and so
    are all. Where there are fewer units than folds, some folds are empty.
    """
    y, g = (np.asarray(x).astype(np.int64, copy=False).ravel() for x in (label, group))
    _, first, of_image = np.unique(np.asarray(unit), return_index=True, return_inverse=True)
    order = np.argsort(first)  # units as they appear
    first, of_image = first[order], np.argsort(order)[of_image.ravel()]
    random = np.random.default_rng(derive_seed(0, "folds")).random(len(first))
    fold = np.empty(len(first), np.int64)
    fold[np.lexsort((random, g[first], y[first]))] = np.arange(len(first)) % folds
    return fold[of_image]


def chosen_without(
    label: Any, group: Any, rounds: Any, fold: Ints, choose: Chooser, *, num_classes: int
) -> tuple[int, ...]:
    """By fold the place of the round that ``choose`` takes where it sees all other folds.

    Args:
        label, group: (N,) classes and codes 0 and 1.
        rounds: (R, N) predictions of each round.
        fold: (N,) as ``deal_folds`` gives them.
        choose: is given F1 and every gap by name, each (R,); NaN where the images left have one group only.
    """
    y, g, said = (np.asarray(x).astype(np.int64, copy=False) for x in (label, group, rounds))
    whole = many_counts(y, said, g, num_classes=num_classes)
    found = []
    for each in range(int(fold.max()) + 1):
        own = fold == each
        part = many_counts(y[own], said[:, own], g[own], num_classes=num_classes) if own.any() else _none(whole)
        found.append(choose(metrics_of(_less(whole, part))))
    return tuple(found)


def _less(whole: Counts, part: Counts) -> Counts:
    return Counts(tp=whole.tp - part.tp, fp=whole.fp - part.fp, fn=whole.fn - part.fn, tn=whole.tn - part.tn)


def _none(like: Counts) -> Counts:
    nothing = np.zeros_like(like.tp)
    return Counts(tp=nothing, fp=nothing, fn=nothing, tn=nothing)
