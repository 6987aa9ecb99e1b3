"""FairnessReport: every accuracy and fairness number of one set of predictions, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scp_ray.maths import gaps
from scp_ray.maths.rates import Counts, Floats, Ints, group_counts, macro, share


@dataclass(frozen=True)
class FairnessReport:
    """Numbers of one split. Arrays (2,) are indexed by group code; see ``fairness_report`` for the readings."""

    precision: Floats
    recall: Floats
    f1: Floats
    f1_fixed: Floats
    accuracy: Floats
    accuracy_pooled: float
    balanced_accuracy: float
    f1_pooled: float
    eopp0: float
    eopp1: float
    eodd: float
    eopp0_released: float
    eopp1_released: float
    eodd_released: float
    eodd_sum_abs: float
    eopp1_shared: float
    support: Ints
    notes: tuple[str, ...]

    @property
    def f1_mean(self) -> float:
        """Mean of the two groups' macro F1: the tables' "Avg" and the F1 of FATE."""
        return float(self.f1.mean())

    @property
    def f1_diff(self) -> float:
        """Absolute difference of the two groups' macro F1."""
        return float(abs(self.f1[0] - self.f1[1]))

    @property
    def precision_mean(self) -> float:
        """Mean of the two groups' macro precision."""
        return float(self.precision.mean())

    @property
    def precision_diff(self) -> float:
        """Absolute difference of the two groups' macro precision."""
        return float(abs(self.precision[0] - self.precision[1]))

    @property
    def recall_mean(self) -> float:
        """Mean of the two groups' macro recall."""
        return float(self.recall.mean())

    @property
    def recall_diff(self) -> float:
        """Absolute difference of the two groups' macro recall."""
        return float(abs(self.recall[0] - self.recall[1]))

    def gap(self, name: str) -> float:
        """A gap by name: eopp0, eopp1 or eodd, the published readings."""
        if name not in gaps.GAPS:
            raise ValueError(f"gap must be one of {', '.join(gaps.GAPS)}, got {name!r}.")
        return float(getattr(self, name))

    def as_row(self, prefix: str = "") -> dict[str, Any]:
        """Flat columns for a table, e.g. ``as_row("val_")["val_f1"]``, the mean over groups."""
        row: dict[str, Any] = {"n": int(self.support.sum())}
        for name in ("f1", "precision", "recall", "f1_fixed", "accuracy"):
            values = getattr(self, name)
            row[name] = float(values.mean())
            row[f"{name}_diff"] = float(abs(values[0] - values[1]))
            row |= {f"{name}_group{code}": float(values[code]) for code in (0, 1)}
        for name in (
            *("accuracy_pooled", "balanced_accuracy", "f1_pooled", "eopp0", "eopp1", "eodd"),
            *("eopp0_released", "eopp1_released", "eodd_released", "eodd_sum_abs", "eopp1_shared"),
        ):
            row[name] = getattr(self, name)
        row["notes"] = "; ".join(self.notes)
        return {prefix + key: value for key, value in row.items()}


def fairness_report(label: Any, prediction: Any, group: Any, *, num_classes: int) -> FairnessReport:
    """Accuracy and fairness of predictions (N,) against labels (N,) in two groups (N,) of codes 0 and 1.

    * precision, recall, f1: macro average within a group over the labels that occur there in truth or
      prediction, an undefined one counted as 0 (scikit-learn's default, as the released code uses it); the two
      groups may average over different classes. ``f1_fixed`` averages over all ``num_classes``.
    * eopp0, eopp1, eodd: the published readings, averaged over ``num_classes``; ``*_released`` average, as the
      released code does, over max(label, prediction) + 1 classes only.
    * eodd_sum_abs, eopp1_shared: corrected readings (see ``gaps``).
    * support: (2, K) samples per group and class. A group without samples makes its numbers and every gap NaN.

    Raises ScpError for unequal lengths, or codes that are no whole numbers or out of range.
    """
    counts = group_counts(label, prediction, group, num_classes=num_classes)
    seen = int(max(np.max(np.asarray(label)), np.max(np.asarray(prediction)))) + 1
    present = counts.support.sum(1) > 0
    occurs = counts.occurs
    nan_unless = 1.0 if present.all() else float("nan")
    pooled = _pooled(counts)
    return FairnessReport(
        precision=macro(counts.precision, occurs),
        recall=macro(counts.tpr, occurs),
        f1=macro(counts.f1, occurs),
        f1_fixed=np.where(present, np.nan_to_num(counts.f1).mean(1), np.nan),
        accuracy=share(counts.tp.sum(1), counts.support.sum(1)),
        accuracy_pooled=float(counts.tp.sum() / counts.support.sum()),
        balanced_accuracy=float(np.nanmean(pooled.tpr)),
        f1_pooled=float(macro(pooled.f1, pooled.occurs)[0]),
        eopp0=float(nan_unless * gaps.eopp0(counts, num_classes)),
        eopp1=float(nan_unless * gaps.eopp1(counts, num_classes)),
        eodd=float(nan_unless * gaps.eodd(counts, num_classes)),
        eopp0_released=float(nan_unless * gaps.eopp0(counts, seen)),
        eopp1_released=float(nan_unless * gaps.eopp1(counts, seen)),
        eodd_released=float(nan_unless * gaps.eodd(counts, seen)),
        eodd_sum_abs=float(nan_unless * gaps.eodd_sum_abs(counts, num_classes)),
        eopp1_shared=float(gaps.eopp1_shared(counts)),
        support=counts.support,
        notes=_notes(counts),
    )


def _pooled(counts: Counts) -> Counts:
    """Both groups as one, (1, K)."""
    return Counts(*(x.sum(0, keepdims=True) for x in (counts.tp, counts.fp, counts.fn, counts.tn)))


def _notes(counts: Counts) -> tuple[str, ...]:
    notes = []
    for code in (0, 1):
        absent = int((counts.support[code] == 0).sum())
        if counts.support[code].sum() == 0:
            notes.append(f"group {code} has no samples: its numbers and all gaps are NaN")
        elif absent:
            notes.append(f"{absent} classes absent from group {code}: their TPR counts as 0 in eopp1 and eodd")
    return tuple(notes)
