"""The same redrawn images for many sets of predictions: how far images alone move each metric, and together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from scp_ray.maths import gaps
from scp_ray.maths.rates import Counts, Floats, Ints, f1_mean, many_counts

METRICS = ("f1", *gaps.GAPS)
_CELLS_AT_ONCE = 4_000_000  # counts held at a time: about 200 MB with what the metrics make of them


def metrics_of(counts: Counts) -> dict[str, Floats]:
    """Each of ``METRICS`` of counts (..., 2, K); NaN where a group has no samples."""
    classes = counts.tp.shape[-1]
    undefined = np.where((counts.support.sum(-1) > 0).all(-1), 0.0, np.nan)
    by_gap = {name: getattr(gaps, name)(counts, classes) + undefined for name in gaps.GAPS}
    return {"f1": f1_mean(counts), **by_gap}


def observed_metrics(label: Any, group: Any, predictions: Any, *, num_classes: int) -> dict[str, Floats]:
    """Each of ``METRICS`` of predictions (P, N), as arrays (P,)."""
    return metrics_of(many_counts(label, predictions, group, num_classes=num_classes))


class Units:
    """What is drawn: the images of one unit, class and group, (U,) of them in the order of class, then group.

    A unit that mixes classes or groups is drawn as one part for each, since an image keeps its class and group.
    """

    def __init__(self, label: Ints, group: Ints, unit: Any, *, num_classes: int) -> None:
        code: Ints = np.arange(len(label))
        if unit is not None:
            code = np.unique(np.asarray(unit), return_inverse=True)[1].ravel().astype(np.int64)
        cell = label * 2 + group
        parts, self.of_image, size = np.unique(
            cell * (code.max() + 1) + code, return_inverse=True, return_counts=True
        )  # of_image: (N,) each image's part
        self.count = len(np.unique(code))
        self.size = size.astype(float)  # (U,) images
        self.cell = parts // (code.max() + 1)  # (U,) class x 2 + group
        self.images = np.bincount(cell, minlength=2 * num_classes)  # (2K,) images of each cell
        self.parts = np.bincount(self.cell, minlength=2 * num_classes)  # (2K,) parts of each cell
        self.first = np.cumsum(self.parts) - self.parts

    @property
    def degrees(self) -> float:
        """Degrees of freedom of a variance of means of cells."""
        return float(max(1, len(self.cell) - np.count_nonzero(self.parts)))

    def weights(self, draws: int, widened: Floats, rng: np.random.Generator) -> Floats:
        """(draws, 2, U): how often each part stands in for images of group 0 and of group 1 of its class.

        A cell of n parts draws n: each from the cell, or with the probability ``widened`` (2K,) from both groups of
        its class. Weights are then scaled, so that every cell has its number of images whatever units were drawn.
        """
        count, group = len(self.cell), self.cell % 2
        both = self.parts.reshape(-1, 2).sum(1)[self.cell // 2]
        wide = rng.random((draws, count)) < widened[self.cell]
        start = np.where(wide, self.first[self.cell // 2 * 2], self.first[self.cell])
        pick = start + (rng.random((draws, count)) * np.where(wide, both, self.parts[self.cell])).astype(np.int64)
        home = (np.arange(draws)[:, None] * 2 + group) * count + pick
        weight = np.bincount(home.ravel(), minlength=draws * 2 * count).reshape(draws, 2, count).astype(float)
        return weight if (self.size == 1).all() else self._scaled(weight)

    def _scaled(self, weight: Floats) -> Floats:
        classes = self.cell // 2
        starts = np.flatnonzero(np.diff(classes, prepend=-1))
        images = np.add.reduceat(weight * self.size, starts, axis=-1)  # (draws, 2, classes that occur)
        wanted = self.images.reshape(-1, 2).T[:, classes[starts]]
        factor = np.divide(wanted, images, out=np.zeros_like(images), where=images > 0)
        scaled: Floats = weight * factor[..., np.searchsorted(classes[starts], classes)]
        return scaled


class Answers:
    """Predictions (P, N) as counts by part, so that any weights of the parts give counts by one product."""

    def __init__(self, label: Ints, predictions: Ints, units: Units, *, num_classes: int) -> None:
        self.sets, self.units = len(predictions), units
        column = np.arange(self.sets)[:, None] * num_classes + predictions
        parts = np.broadcast_to(units.of_image, column.shape)
        shape = (self.sets * num_classes, len(units.cell))

        def table(chosen: NDArray[np.bool_]) -> csr_array:
            return csr_array((np.ones(np.count_nonzero(chosen)), (column[chosen], parts[chosen])), shape=shape)

        right = predictions == label
        self._right, self._wrong = table(right), table(~right)

    def metrics(self, weight: Floats) -> dict[str, Floats]:
        """Each of ``METRICS``, (draws, P), of weights (draws, 2, U) that keep the images of every cell."""
        support = self.units.images.reshape(-1, 2).T  # (2, K)
        outside = support.sum(1, keepdims=True) - support
        tp, fp = self._counted(self._right, weight), self._counted(self._wrong, weight)
        return metrics_of(Counts(tp=tp, fp=fp, fn=support - tp, tn=outside - fp))

    def _counted(self, table: csr_array, weight: Floats) -> Any:
        draws, groups, parts = weight.shape
        product = table @ weight.reshape(draws * groups, parts).T
        return product.reshape(self.sets, -1, draws, groups).transpose(2, 0, 3, 1)


def widening(label: Ints, predictions: Ints, units: Units) -> Floats:
    """(2K,) probability that an image of a cell is drawn from its whole class: how little the cell tells by itself.

    Empirical Bayes. Of class c let d be the difference of the groups' TPR, and v its variance were the TPR the same.
    The mean of d^2 - v over classes, weighted by n_0 n_1 / (n_0 + n_1) and no less than 0, estimates t, the mean square
    of true differences; v / (v + t) is then drawn from the class. Fair predictions are thus redrawn as fair ones:
    drawn from the cells alone, their gaps would first grow by the noise that is there and then move too freely, since
    an absolute value moves less around 0. At least min(1, 2 / n) for a cell of n: within the cell alone a variance
    comes out too small by (n - 1) / n, and as 0 at n = 1.
    """
    sets, cells = len(predictions), len(units.images)
    home = np.arange(sets)[:, None] * cells + units.cell[units.of_image]
    hits = np.bincount(home[predictions == label], minlength=sets * cells).reshape(sets, -1, 2)
    images, parts = units.images.reshape(-1, 2), units.parts.reshape(-1, 2)
    shared = (parts > 0).all(-1)  # classes that both groups have
    rates, pooled = hits[:, shared] / images[shared], hits[:, shared].sum(-1) / images[shared].sum(-1)
    count = parts[shared].sum(-1)
    weight = parts[shared].prod(-1) / count
    noise = (pooled * (1 - pooled) * count / (count - 1)).mean(0)  # weight x v
    square = (weight * (rates[..., 0] - rates[..., 1]) ** 2).mean(0)
    true = max(0.0, float((square - noise).sum() / weight.sum())) if shared.any() else 0.0
    widened = np.zeros(len(images))
    widened[shared] = np.divide(noise, noise + weight * true, out=np.zeros_like(noise), where=noise > 0)
    least = np.minimum(1.0, 2.0 / np.maximum(units.parts, 1))
    return np.maximum(least, widened.repeat(2))


def redrawn_metrics(
    label: Ints, predictions: Ints, units: Units, *, num_classes: int, draws: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """Each of ``METRICS`` of predictions (P, N) on redrawn images, (draws, P): row r is the same images for all P."""
    widened = widening(label, predictions, units)
    answers = Answers(label, predictions, units, num_classes=num_classes)
    chunk = max(1, _CELLS_AT_ONCE // (2 * len(predictions) * num_classes))
    found = [
        answers.metrics(units.weights(min(chunk, draws - start), widened, rng)) for start in range(0, draws, chunk)
    ]
    return {name: np.concatenate([part[name] for part in found]) for name in METRICS}
