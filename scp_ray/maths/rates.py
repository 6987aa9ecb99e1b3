"""One-vs-rest rates per group and class, with the support behind each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scp_ray.errors import ScpError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """True and false positives and negatives, each (2, K): group code x class."""

    tp: Ints
    fp: Ints
    fn: Ints
    tn: Ints

    @property
    def support(self) -> Ints:
        """(2, K) samples of that group and class."""
        return self.tp + self.fn

    @property
    def tpr(self) -> Floats:
        """True positive rate (recall), NaN where the group has no sample of the class."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def fpr(self) -> Floats:
        """False positive rate, NaN where the group has no sample outside the class."""
        return _ratio(self.fp, self.fp + self.tn)

    @property
    def tnr(self) -> Floats:
        """True negative rate, NaN where the group has no sample outside the class."""
        return _ratio(self.tn, self.fp + self.tn)

    @property
    def precision(self) -> Floats:
        """Share of correct ones among the predictions of a class, NaN where there are none."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN), NaN where the class occurs in neither labels nor predictions."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def group_counts(label: Any, prediction: Any, group: Any, *, num_classes: int) -> Counts:
    """Count label (N,), prediction (N,) and group (N,) of codes 0 and 1 into (2, K) tables.

    Raises ScpError where lengths differ or a code is out of range: groups are codes, never positions.
    """
    y, p, g = (np.asarray(x).astype(np.int64, copy=False).ravel() for x in (label, prediction, group))
    if not len(y) == len(p) == len(g) or len(y) == 0:
        raise ScpError(f"label, prediction and group must be equally long and not empty: {len(y)}, {len(p)}, {len(g)}.")
    for name, codes, size in (("label", y, num_classes), ("prediction", p, num_classes), ("group", g, 2)):
        if codes.min() < 0 or codes.max() >= size:
            raise ScpError(f"{name} codes must lie in 0..{size - 1}, got {codes.min()}..{codes.max()}.")
    confusion = np.bincount((g * num_classes + y) * num_classes + p, minlength=2 * num_classes**2)
    confusion = confusion.reshape(2, num_classes, num_classes)  # group, label, prediction
    tp = np.diagonal(confusion, axis1=1, axis2=2)
    fn = confusion.sum(2) - tp
    fp = confusion.sum(1) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=confusion.sum((1, 2))[:, None] - tp - fn - fp)


def _ratio(part: Ints, whole: Ints) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio
