"""What is drawn and permuted whole: lesions, patients, or single images."""

from __future__ import annotations

from typing import Any

import numpy as np

from scp_ray.maths.rates import Counts, Floats, Ints


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

    def counts(self, tp: Any, fp: Any) -> Counts:
        """Counts (..., 2, K) of tables in which every cell has its number of images."""
        support = self.images.reshape(-1, 2).T  # (2, K)
        outside = support.sum(1, keepdims=True) - support
        return Counts(tp=tp, fp=fp, fn=support - tp, tn=outside - fp)
