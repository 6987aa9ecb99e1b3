"""Units that were answered alike are one kind: drawing how many of each costs less than drawing which."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from scp_ray.maths.rates import Counts, Floats, Ints
from scp_ray.maths.units import Units


class Kinds:
    """The (T,) kinds of parts of ``units``: of one class, one number of images and the same answers (N,) to them.

    Which of two alike is drawn, or dealt to a group, changes no count. Kinds stand in the order of class, then size.
    """

    def __init__(self, label: Ints, prediction: Ints, units: Units, *, num_classes: int) -> None:
        self.units, self.classes = units, num_classes
        size = units.size.astype(np.int64)
        said = _sums(prediction, units)  # the same for the same answers, whatever their order
        names, self.of_part = np.unique(np.stack([units.cell // 2, size, said]), axis=1, return_inverse=True)
        self.label, self.size = names[0], names[1]
        group = units.cell % 2
        self.count = np.stack([np.bincount(self.of_part[group == g], minlength=len(self.label)) for g in (0, 1)])
        shown = np.full(len(self.label), -1)
        shown[self.of_part] = np.arange(len(self.of_part))  # a part of each kind
        images = np.flatnonzero(np.isin(units.of_image, shown))
        shape = (num_classes, len(self.label))
        kind = self.of_part[units.of_image[images]]
        right = prediction[images] == label[images]
        self._right, self._wrong = (
            csr_array((np.ones(np.count_nonzero(rows)), (prediction[images][rows], kind[rows])), shape=shape)
            for rows in (right, ~right)
        )

    def permuted(self, permutations: int, rng: np.random.Generator) -> Floats:
        """Weights (permutations, 2, T): group codes exchanged between parts of one class and one number of images.

        So each class keeps its images of each group exactly, the expected gap of a fair classifier on this very table
        is what is sampled, and the test is exact whatever the sizes: given class and size, a fair classifier's answers
        to a unit are exchangeable. A part whose size nothing else in its class has stays where it is.
        """
        weight = np.repeat(self.count[None].astype(float), permutations, 0)
        for one in _runs(self.label * (int(self.size.max()) + 1) + self.size):
            count = self.count[:, one]
            if min(count.sum(1)) > 0 and count.shape[1] > 1:
                dealt = rng.multivariate_hypergeometric(count.sum(0), int(count[1].sum()), permutations)
                weight[:, 1, one] = dealt
                weight[:, 0, one] = count.sum(0) - dealt
        return weight

    def redrawn(self, draws: int, rng: np.random.Generator) -> Floats:
        """Weights (draws, 2, T) distributed as ``Units.weights``."""
        weight = np.zeros((draws, 2, len(self.label)))
        for one in _runs(self.label):
            count = self.count[:, one]
            for group, parts in enumerate(count.sum(1)):
                if parts:
                    wide = min(1.0, 2.0 / parts)
                    chance = (1 - wide) * count[group] / parts + wide * count.sum(0) / count.sum()
                    weight[:, group, one] = rng.multinomial(parts, chance / chance.sum(), draws)
        return weight if (self.size == 1).all() else self._scaled(weight)

    def counts(self, weight: Floats) -> Counts:
        """Counts (draws, 2, K) of weights that keep the images of every cell."""
        return self.units.counts(self._counted(self._right, weight), self._counted(self._wrong, weight))

    def _counted(self, table: csr_array, weight: Floats) -> Any:
        draws, groups, kinds = weight.shape
        return (table @ weight.reshape(draws * groups, kinds).T).T.reshape(draws, groups, -1)

    def _scaled(self, weight: Floats) -> Floats:
        for one in _runs(self.label):
            images = (weight[:, :, one] * self.size[one]).sum(-1)  # (draws, 2)
            wanted = self.units.images.reshape(-1, 2)[self.label[one][0]]
            weight[:, :, one] *= np.divide(wanted, images, out=np.zeros_like(images), where=images > 0)[:, :, None]
        return weight


def _sums(prediction: Ints, units: Units) -> Ints:
    """(U,) a number for each part's answers: sums of 62 random bits for each class, which differ if the answers do."""
    bits = np.random.default_rng(0).integers(2**62, size=int(prediction.max()) + 1)
    sums = np.zeros(len(units.cell), dtype=np.int64)
    np.add.at(sums, units.of_image, bits[prediction])  # may wrap around, alike for all
    return sums


def _runs(values: Ints) -> list[slice]:
    """Where sorted values are equal."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]
