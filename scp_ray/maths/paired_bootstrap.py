"""The same redrawn images for many sets of predictions: how far images alone move each metric, and together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from scp_ray.maths import gaps
from scp_ray.maths.rates import Counts, Floats, Ints, f1_mean, many_counts

METRICS = ("f1", *gaps.GAPS)  # of differences
ALL = (*METRICS, "eodd_sum_abs")
_CELLS_AT_ONCE = 4_000_000  # counts held at a time: about 200 MB with what the metrics make of them


def metrics_of(counts: Counts) -> dict[str, Floats]:
    """Each of ``ALL`` of counts (..., 2, K); NaN where a group has no samples."""
    classes = counts.tp.shape[-1]
    undefined = np.where((counts.support.sum(-1) > 0).all(-1), 0.0, np.nan)
    by_gap = {name: getattr(gaps, name)(counts, classes) + undefined for name in ALL[1:]}
    return {"f1": f1_mean(counts), **by_gap}


def observed_metrics(label: Any, group: Any, predictions: Any, *, num_classes: int) -> dict[str, Floats]:
    """Each of ``ALL`` of predictions (P, N), as arrays (P,)."""
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
        self.size = size.astype(np.float64)  # (U,) images
        self.cell = parts // (code.max() + 1)  # (U,) class x 2 + group
        self.images = np.bincount(cell, minlength=2 * num_classes)  # (2K,) images of each cell
        self.parts = np.bincount(self.cell, minlength=2 * num_classes)  # (2K,) parts of each cell
        self.first = np.cumsum(self.parts) - self.parts

    @property
    def degrees(self) -> float:
        """Degrees of freedom of a variance of means of cells."""
        return float(max(1, len(self.cell) - int(np.count_nonzero(self.parts))))

    def weights(self, draws: int, rng: np.random.Generator) -> Floats:
        """(draws, 2, U): how often each part stands in for images of group 0 and of group 1 of its class.

        A cell of n parts draws n: each from the cell, or with probability min(1, 2 / n) from both groups of its class.
        Within the cell alone a variance comes out too small by (n - 1) / n, and as 0 at n = 1; in the published
        Fitzpatrick-17k test table half of the dark cells hold three images or fewer. Weights are then scaled, so that
        every cell has its number of images whatever units were drawn.
        """
        count, group = len(self.cell), self.cell % 2
        own = self.parts[self.cell]
        both = self.parts.reshape(-1, 2).sum(1)[self.cell // 2]
        wide = rng.random((draws, count)) < np.minimum(1.0, 2.0 / own)
        start = np.where(wide, self.first[self.cell // 2 * 2], self.first[self.cell])
        pick = start + (rng.random((draws, count)) * np.where(wide, both, own)).astype(np.int64)
        home = (np.arange(draws)[:, None] * 2 + group) * count + pick
        weight = np.bincount(home.ravel(), minlength=draws * 2 * count).reshape(draws, 2, count).astype(float)
        return weight if (self.size == 1).all() else self.scaled(weight)

    def scaled(self, weight: Floats) -> Floats:
        """Weights (draws, 2, U) that give every cell its number of images."""
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
        """Each of ``ALL``, (draws, P), of weights (draws, 2, U) that keep the images of every cell."""
        return metrics_of(self.counts(weight))

    def counts(self, weight: Floats) -> Counts:
        """Counts (draws, P, 2, K) of the same."""
        support = self.units.images.reshape(-1, 2).T  # (2, K)
        outside = support.sum(1, keepdims=True) - support
        tp, fp = self._counted(self._right, weight), self._counted(self._wrong, weight)
        return Counts(tp=tp, fp=fp, fn=support - tp, tn=outside - fp)

    def _counted(self, table: csr_array, weight: Floats) -> Any:
        draws, groups, parts = weight.shape
        product = table @ weight.reshape(draws * groups, parts).T
        return product.reshape(self.sets, -1, draws, groups).transpose(2, 0, 3, 1)


def redrawn_metrics(
    label: Ints, predictions: Ints, units: Units, *, num_classes: int, draws: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """Each of ``ALL`` of predictions (P, N) on redrawn images, (draws, P): row r is the same images for all P."""
    answers = Answers(label, predictions, units, num_classes=num_classes)
    chunk = max(1, _CELLS_AT_ONCE // (2 * len(predictions) * num_classes))
    found = [answers.metrics(units.weights(min(chunk, draws - start), rng)) for start in range(0, draws, chunk)]
    return {name: np.concatenate([part[name] for part in found]) for name in ALL}
