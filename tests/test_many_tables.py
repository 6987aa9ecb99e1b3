"""Counts and gaps of many tables at once."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, multilabel_confusion_matrix

from scp_ray.errors import ScpError
from scp_ray.maths import gaps
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.rates import f1_mean, many_counts
from scp_ray.maths.report import fairness_report


def rare_classes():
    """Class 1 absent from group 1, class 3 never said in group 0, class 5 nowhere."""
    generator = np.random.default_rng(7)
    label, group = generator.integers(5, size=300), (generator.random(300) < 0.3).astype(int)
    prediction = np.where(generator.random(300) < 0.5, label, generator.integers(5, size=300))
    label[(group == 1) & (label == 1)] = 0
    prediction[(group == 0) & (prediction == 3)] = 2
    return label, prediction, group


def test_many_tables_at_once_against_scikit_learn():
    """Groups that differ between 5 tables, answers that differ between 5, and both: counts, F1 and gaps of each."""
    label, prediction, group = rare_classes()
    generator = np.random.default_rng(11)
    groups = generator.permuted(np.tile(group, (5, 1)), axis=1)
    answers = generator.permuted(np.tile(prediction, (5, 1)), axis=1)
    for said, codes in ((prediction, groups), (answers, group), (answers, groups)):
        counts = many_counts(label, said, codes, num_classes=6)
        means = f1_mean(counts)
        for row in range(5):
            p, g = (x[row] if x.ndim == 2 else x for x in (said, codes))
            for code in (0, 1):
                tables = multilabel_confusion_matrix(label[g == code], p[g == code], labels=range(6))
                for name, one, two in (("tn", 0, 0), ("fp", 0, 1), ("fn", 1, 0), ("tp", 1, 1)):
                    assert np.array_equal(getattr(counts, name)[row, code], tables[:, one, two])
            macro = [f1_score(label[g == code], p[g == code], average="macro", zero_division=0) for code in (0, 1)]
            assert means[row] == pytest.approx(np.mean(macro))
            alone = fairness_report(label, p, g, num_classes=6)
            for name in (*GAPS, "eodd_sum_abs"):
                assert getattr(gaps, name)(counts, 6)[row] == pytest.approx(getattr(alone, name), abs=1e-12)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [(((6,), (6,), (6,)), "must be"), (((6,), (2, 6), (3, 6)), "must be"), (((6,), (2, 5), (6,)), "must be")],
)
def test_many_tables_of_other_shapes_are_refused(shapes, words):
    with pytest.raises(ScpError, match=words):
        many_counts(*(np.zeros(shape, dtype=int) for shape in shapes), num_classes=2)
