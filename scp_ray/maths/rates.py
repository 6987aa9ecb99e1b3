"""One-vs-rest rates per group and class, with the support behind each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scp_ray.errors import ScpError
from scp_ray.maths.codes import whole_codes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NAMES = ("label", "prediction", "group")


@dataclass(frozen=True)
class Counts:
    """True and false positives and negatives, each (2, K): group code x class. Of R tables at once (R, 2, K)."""

    tp: Ints
    fp: Ints
    fn: Ints
    tn: Ints

    @property
    def support(self) -> Ints:
        """(2, K) samples of that group and class."""
        return self.tp + self.fn

    @property
    def occurs(self) -> NDArray[np.bool_]:
        """(2, K) whether the group has the class in its labels or its predictions."""
        return self.tp + self.fp + self.fn > 0

    @property
    def tpr(self) -> Floats:
        """True positive rate (recall), NaN where the group has no sample of the class."""
        return share(self.tp, self.tp + self.fn)

    @property
    def fpr(self) -> Floats:
        """False positive rate, NaN where the group has no sample outside the class."""
        return share(self.fp, self.fp + self.tn)

    @property
    def tnr(self) -> Floats:
        """True negative rate, NaN where the group has no sample outside the class."""
        return share(self.tn, self.fp + self.tn)

    @property
    def precision(self) -> Floats:
        """Share of correct ones among the predictions of a class, NaN where there are none."""
        return share(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN), NaN where the class occurs in neither labels nor predictions."""
        return share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def group_counts(label: Any, prediction: Any, group: Any, *, num_classes: int) -> Counts:
    """Count label (N,), prediction (N,) and group (N,) of codes 0 and 1 into (2, K) tables.

    Raises ScpError where lengths differ, or a code is no whole number or out of range: groups are codes, never
    positions.
    """
    y, p, g = (whole_codes(x, name).ravel() for x, name in zip((label, prediction, group), NAMES, strict=True))
    if not len(y) == len(p) == len(g) or len(y) == 0:
        raise ScpError(f"label, prediction and group must be equally long and not empty: {len(y)}, {len(p)}, {len(g)}.")
    one = many_counts(y, p, g[None], num_classes=num_classes)
    return Counts(tp=one.tp[0], fp=one.fp[0], fn=one.fn[0], tn=one.tn[0])


def many_counts(label: Any, prediction: Any, group: Any, *, num_classes: int) -> Counts:
    """R tables at once, (R, 2, K): permutations and redrawn predictions without a loop.

    Args:
        label, prediction, group: (N,), or (R, N) where they differ between the tables; at least one of them is.

    Raises ScpError for other shapes, or a code that is no whole number or out of range.
    """
    arrays = [whole_codes(x, name) for x, name in zip((label, prediction, group), NAMES, strict=True)]
    tables = max(len(x) if x.ndim == 2 else 0 for x in arrays)
    samples = arrays[0].shape[-1]
    if not tables or not samples or any(x.shape not in ((samples,), (tables, samples)) for x in arrays):
        raise ScpError(f"label, prediction and group must be (N,) or (R, N): got {[x.shape for x in arrays]}.")
    for name, codes, size in zip(NAMES, arrays, (num_classes, num_classes, 2), strict=True):
        if codes.min() < 0 or codes.max() >= size:
            raise ScpError(f"{name} codes must lie in 0..{size - 1}, got {codes.min()}..{codes.max()}.")
    y, p, g = arrays
    offset = (np.arange(tables)[:, None] * 2 + g) * num_classes
    shape = (tables, 2, num_classes)

    def counted(index: Ints) -> Ints:
        return np.bincount(index.ravel(), minlength=tables * 2 * num_classes).reshape(shape)

    support, said = counted(offset + y), counted(offset + p)
    tp = counted((offset + y)[np.broadcast_to(y == p, offset.shape)])
    fn, fp = support - tp, said - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=support.sum(-1, keepdims=True) - tp - fn - fp)


def macro(values: Floats, occurs: NDArray[np.bool_]) -> Floats:
    """(..., G, K) to (..., G): mean over the classes that occur, undefined counted as 0; NaN where none occurs."""
    return share(np.where(occurs, np.nan_to_num(values), 0.0).sum(-1), occurs.sum(-1))


def share(part: Any, whole: Any) -> Floats:
    """Their ratio, NaN where the whole is 0."""
    found: Floats = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
    return found


def f1_mean(counts: Counts) -> Floats:
    """(...,) mean of the two groups' macro F1 over the labels that occur in each: the F1 of FATE."""
    mean: Floats = macro(counts.f1, counts.occurs).mean(-1)
    return mean
