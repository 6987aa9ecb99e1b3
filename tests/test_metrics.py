from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fairlearn.metrics import equalized_odds_difference
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
)

from scp_ray.errors import ScpError
from scp_ray.maths import gaps as every_gap
from scp_ray.maths.fate import fate, fate_reason
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.paired import paired_differences
from scp_ray.maths.rates import f1_mean, group_counts, many_counts
from scp_ray.maths.report import fairness_report
from scp_ray.maths.uncertainty import noise_floor

# methods.md 13.1: class 2 is absent from group 1
WORKED = ([0, 0, 1, 2, 0, 1, 1], [0, 1, 1, 2, 0, 1, 0], [0, 0, 0, 0, 1, 1, 1])
# group 0 perfect; group 1 half right in either class, so that TPR and FPR gaps are opposite
CANCELLING = ([0, 0, 1, 1] * 2, [0, 0, 1, 1, 0, 1, 1, 0], [0] * 4 + [1] * 4)


def predictions(*, seed, count=300, classes=6):
    """Labels, predictions that are right about half of the time, groups of about 70 and 30 per cent."""
    generator = np.random.default_rng(seed)
    label = generator.integers(classes, size=count)
    prediction = np.where(generator.random(count) < 0.5, label, generator.integers(classes, size=count))
    return label, prediction, (generator.random(count) < 0.3).astype(int)


def rare_classes():
    """Class 1 absent from group 1 in truth, class 3 from group 0's predictions, class 5 from everything."""
    label, prediction, group = predictions(seed=7, classes=5)
    label[(group == 1) & (label == 1)] = 0
    prediction[(group == 0) & (prediction == 3)] = 2
    return label, prediction, group


CASES = {
    "random": (predictions(seed=1), 6),
    "small": (predictions(seed=2, count=25, classes=8), 8),
    "rare": (rare_classes(), 6),
    "two classes": (predictions(seed=3, classes=2), 2),
    "worked": (WORKED, 3),
}


@pytest.fixture(params=CASES)
def case(request):
    (label, prediction, group), classes = CASES[request.param]
    return np.asarray(label), np.asarray(prediction), np.asarray(group), classes


def test_worked_example():
    """Per class 0, 1, 2 and group: TPR (1/2, 1, 1) and (1, 1/2, 0); TNR (1, 2/3, 1) and (1/2, 1, 1).

    Eopp0 (1/2 + 1/3 + 0) / 3 = 0.277778; Eopp1 (1/2 + 1/2 + 1) / 3 = 0.666667;
    Eodd |-1/2 - 1/2|, |1/2 + 1/3|, |1 + 0|: 2.833333 / 6 = 0.472222; summed without cancellation it is the same
    here, since no class has gaps of opposite sign. F1: group 0 (2/3, 2/3, 1), group 1 (2/3, 2/3 and no class 2).
    Pooled: TP 2, 2, 1 of 3, 3, 1 and as many predicted: F1 (2/3, 2/3, 1). Shared classes 0 and 1: TPR gap 1/2.
    """
    report = fairness_report(*WORKED, num_classes=3)
    assert report.eopp0 == pytest.approx(0.277778, abs=1e-6)
    assert report.eopp1 == pytest.approx(0.666667, abs=1e-6)
    assert report.eodd == pytest.approx(0.472222, abs=1e-6)
    assert report.eodd_sum_abs == pytest.approx(0.472222, abs=1e-6)
    assert report.eopp1_shared == pytest.approx(1 / 2)
    assert report.f1.tolist() == pytest.approx([7 / 9, 2 / 3])
    assert report.f1_fixed.tolist() == pytest.approx([7 / 9, 4 / 9])
    assert report.f1_pooled == pytest.approx(7 / 9)
    assert report.precision.tolist() == pytest.approx([5 / 6, 3 / 4])
    assert report.recall.tolist() == pytest.approx([5 / 6, 3 / 4])
    assert report.accuracy.tolist() == pytest.approx([3 / 4, 2 / 3])
    assert report.accuracy_pooled == pytest.approx(5 / 7)
    assert report.balanced_accuracy == pytest.approx(7 / 9)
    assert report.support.tolist() == [[2, 1, 1], [1, 2, 0]]
    assert report.notes == ("1 classes absent from group 1: their TPR counts as 0 in eopp1 and eodd",)
    assert (report.f1_mean, report.f1_diff) == pytest.approx((13 / 18, 1 / 9))
    assert (report.precision_mean, report.precision_diff) == pytest.approx((19 / 24, 1 / 12))
    assert (report.recall_mean, report.recall_diff) == pytest.approx((19 / 24, 1 / 12))


def test_cancellation():
    """TPR 1 against 1/2 and FPR 0 against 1/2 in both classes: the sum is 0, the absolute values sum to 1."""
    report = fairness_report(*CANCELLING, num_classes=2)
    assert report.eopp0 == report.eopp1 == 0.5
    assert report.eodd == 0
    assert report.eodd_sum_abs == 0.5


def test_counts_by_hand():
    """Group 0 of the worked example: class 0 once right, once called 1; classes 1 and 2 right."""
    counts = group_counts(*WORKED, num_classes=3)
    assert counts.tp.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert counts.fn.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert counts.fp.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert counts.tn.tolist() == [[2, 2, 3], [1, 1, 3]]
    np.testing.assert_array_equal(counts.tpr, [[1 / 2, 1, 1], [1, 1 / 2, np.nan]])
    np.testing.assert_array_equal(counts.precision, [[1, 1 / 2, 1], [1 / 2, 1, np.nan]])


@pytest.mark.parametrize("case_number", [0, 1])
def test_golden_values(shared: Path, case_number):
    golden = json.loads((shared / "golden" / "golden.json").read_text())["metrics"][case_number]
    report = fairness_report(golden["y"], golden["pred"], golden["group"], num_classes=golden["k"])
    wanted = golden["metrics"]
    for ours, theirs in (("eopp0", "EOpp0_abs"), ("eopp1", "EOpp1_abs"), ("eodd", "EOdds_abs")):
        assert getattr(report, ours) == pytest.approx(wanted[f"fairness/{theirs}"], rel=1e-9), ours
    for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        expected = [wanted[f"accuracy/group{code}_{theirs}"] for code in (0, 1)]
        assert getattr(report, ours).tolist() == pytest.approx(expected, rel=1e-9), ours
    assert report.accuracy.tolist() == pytest.approx([wanted[f"group{code}_accuracy"] for code in (0, 1)], rel=1e-9)
    assert report.accuracy_pooled == pytest.approx(wanted["avg/accuracy"], rel=1e-9)
    assert report.f1_pooled == pytest.approx(wanted["avg/F1"], rel=1e-9)


def test_macro_numbers_against_scikit_learn(case):
    label, prediction, group, classes = case
    report = fairness_report(label, prediction, group, num_classes=classes)
    for code in (0, 1):
        y, p = label[group == code], prediction[group == code]
        expected = precision_recall_fscore_support(y, p, average="macro", zero_division=0)[:3]
        assert (report.precision[code], report.recall[code], report.f1[code]) == pytest.approx(expected, rel=1e-12)
        fixed = f1_score(y, p, average="macro", labels=range(classes), zero_division=0)
        assert report.f1_fixed[code] == pytest.approx(fixed, rel=1e-12)
        assert report.accuracy[code] == pytest.approx((y == p).mean(), rel=1e-12)
    pooled = f1_score(label, prediction, average="macro", zero_division=0)
    assert report.f1_pooled == pytest.approx(pooled, rel=1e-12)
    assert report.balanced_accuracy == pytest.approx(balanced_accuracy_score(label, prediction), rel=1e-12)
    assert report.accuracy_pooled == pytest.approx((label == prediction).mean(), rel=1e-12)


def test_equalised_odds_against_fairlearn(case):
    """fairlearn's mean of the TPR and FPR differences, one class against the rest, averaged over classes."""
    label, prediction, group, classes = case
    expected = [
        equalized_odds_difference(label == c, prediction == c, sensitive_features=group, agg="mean")
        for c in range(classes)
    ]
    report = fairness_report(label, prediction, group, num_classes=classes)
    assert report.eodd_sum_abs == pytest.approx(np.mean(expected), rel=1e-12)


def test_gaps_do_not_depend_on_which_group_is_called_0(case):
    label, prediction, group, classes = case
    plain, swapped = (fairness_report(label, prediction, g, num_classes=classes) for g in (group, 1 - group))
    for name in (*GAPS, *(f"{gap}_released" for gap in GAPS), "eodd_sum_abs", "eopp1_shared", "f1_diff"):
        assert getattr(plain, name) == pytest.approx(getattr(swapped, name), rel=1e-12), name
    for name in ("f1_diff", "precision_diff", "recall_diff", "f1_fixed_diff", "accuracy_diff"):
        assert plain.as_row()[name] == pytest.approx(swapped.as_row()[name], rel=1e-12), name


def test_released_averages_over_fewer_classes_where_the_top_ones_never_appear():
    """The worked example with num_classes=5: the sums stay, K is 5 in ours and 2 + 1 = 3 in the released form."""
    report = fairness_report(*WORKED, num_classes=5)
    assert report.eopp0 == pytest.approx((5 / 6) / 5)
    assert report.eopp1 == pytest.approx(2 / 5)
    assert report.eodd == pytest.approx((17 / 6) / 10)
    assert report.eopp0_released == pytest.approx(0.277778, abs=1e-6)
    assert report.eopp1_released == pytest.approx(0.666667, abs=1e-6)
    assert report.eodd_released == pytest.approx(0.472222, abs=1e-6)


def test_released_equals_ours_where_a_prediction_alone_names_the_top_class():
    """Class 3 is predicted once and never true: max(label, prediction) + 1 = 4 = num_classes."""
    label, prediction, group = [0, 1, 0, 1], [0, 3, 0, 0], [0, 0, 1, 1]
    report = fairness_report(label, prediction, group, num_classes=4)
    # TNR gaps: class 0 is 1 against 0, class 3 is 1/2 against 1
    assert report.eopp0_released == report.eopp0 == pytest.approx(1.5 / 4)


def test_shared_classes_only():
    """Class 0 in both groups: TPR 1 and 1/2. Class 1 in group 0 only, class 2 in group 1 only: they do not count."""
    report = fairness_report([0, 1, 0, 0, 2], [0, 1, 0, 1, 2], [0, 0, 1, 1, 1], num_classes=3)
    assert report.eopp1_shared == 0.5
    assert report.eopp1 == pytest.approx((0.5 + 1 + 1) / 3)


def test_no_shared_class():
    report = fairness_report([0, 0, 1], [0, 0, 1], [0, 0, 1], num_classes=2)
    assert math.isnan(report.eopp1_shared)
    assert report.eopp1 == 1


@pytest.mark.parametrize("absent", [0, 1])
def test_absent_group_gives_nan_with_a_note(absent):
    """4 of 5 right in the one group there is; classes 0 and 1, F1 2/3 and 6/7."""
    report = fairness_report([0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [1 - absent] * 5, num_classes=2)
    for name in ("precision", "recall", "f1", "f1_fixed", "accuracy"):
        assert np.isnan(getattr(report, name)).tolist() == [absent == 0, absent == 1], name
    gaps = (*GAPS, *(f"{gap}_released" for gap in GAPS), "eodd_sum_abs", "eopp1_shared")
    assert all(math.isnan(getattr(report, name)) for name in (*gaps, "f1_mean", "f1_diff"))
    assert report.accuracy[1 - absent] == report.accuracy_pooled == 0.8
    assert report.f1[1 - absent] == pytest.approx((2 / 3 + 6 / 7) / 2)
    assert report.notes == (f"group {absent} has no samples: its numbers and all gaps are NaN",)


def test_lists_arrays_and_tensors_give_the_same():
    plain = fairness_report(*WORKED, num_classes=3).as_row()
    assert fairness_report(*map(torch.tensor, WORKED), num_classes=3).as_row() == plain
    assert fairness_report(*(np.array(x, dtype=np.int32) for x in WORKED), num_classes=3).as_row() == plain


def many_tables(case):
    """Seven tables of the case: its groups permuted, and its predictions, as (7, N)."""
    label, prediction, group, classes = case
    rng = np.random.default_rng(0)
    groups = rng.permuted(np.tile(group, (7, 1)), axis=1)
    predictions = rng.permuted(np.tile(prediction, (7, 1)), axis=1)
    return label, predictions, groups, classes


def test_many_tables_at_once_count_as_one_by_one(case):
    """tp, fp, fn and tn against scikit-learn, one class against the rest in each group."""
    label, predictions, groups, classes = many_tables(case)
    for p, g in ((predictions, groups), (predictions, groups[0]), (predictions[0], groups)):
        counts = many_counts(label, p, g, num_classes=classes)
        for row, code in itertools.product(range(7), (0, 1)):
            mine = (g[row] if g.ndim == 2 else g) == code
            said = (p[row] if p.ndim == 2 else p)[mine]
            expected = multilabel_confusion_matrix(label[mine], said, labels=range(classes))
            np.testing.assert_array_equal(counts.tn[row, code], expected[:, 0, 0])
            np.testing.assert_array_equal(counts.fp[row, code], expected[:, 0, 1])
            np.testing.assert_array_equal(counts.fn[row, code], expected[:, 1, 0])
            np.testing.assert_array_equal(counts.tp[row, code], expected[:, 1, 1])


def test_metrics_of_many_tables(case):
    """F1 against scikit-learn; gaps by their definitions, class by class."""
    label, predictions, groups, classes = many_tables(case)
    counts = many_counts(label, predictions, groups, num_classes=classes)
    found = {name: getattr(every_gap, name)(counts, classes) for name in (*GAPS, "eodd_sum_abs")}
    terms = {name: every_gap.terms(name, counts, classes) for name in found}
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(found, (7,))
    for row in range(7):
        parts = [(label[groups[row] == code], predictions[row][groups[row] == code]) for code in (0, 1)]
        f1 = [f1_score(y, p, average="macro", zero_division=0) for y, p in parts]
        assert f1_mean(counts)[row] == pytest.approx(np.mean(f1))
        tpr, fpr, tnr = [], [], []
        for c in range(classes):
            for rates, given, wanted in ((tpr, True, True), (fpr, False, True), (tnr, False, False)):
                sides = [(p == c)[(y == c) == given] == wanted for y, p in parts]
                zero, one = (side.mean() if len(side) else 0.0 for side in sides)
                rates.append(zero - one)
        tpr, fpr, tnr = np.array(tpr), np.array(fpr), np.array(tnr)
        assert found["eopp0"][row] == pytest.approx(np.abs(tnr).mean())
        assert found["eopp1"][row] == pytest.approx(np.abs(tpr).mean())
        assert found["eodd"][row] == pytest.approx(np.abs(tpr + fpr).mean() / 2)
        assert found["eodd_sum_abs"][row] == pytest.approx((np.abs(tpr) + np.abs(fpr)).mean() / 2)
        assert (terms["eopp0"][row] * classes).tolist() == pytest.approx(tnr.tolist())
        assert (terms["eopp1"][row] * classes).tolist() == pytest.approx(tpr.tolist())
        assert (terms["eodd"][row] * classes * 2).tolist() == pytest.approx((tpr + fpr).tolist())
        assert (terms["eodd_sum_abs"][row] * classes * 2).tolist() == pytest.approx([*tpr, *fpr])


@pytest.mark.parametrize(
    ("label", "prediction", "group", "words"),
    [
        ([0, 1], [0, 1], [0, 1], r"must be \(N,\) or \(R, N\): got \[\(2,\), \(2,\), \(2,\)\]"),
        ([0, 1], [[0, 1]] * 2, [[0, 1]] * 3, r"must be \(N,\) or \(R, N\): got"),
        ([0, 1, 1], [0, 1, 1], [[0, 1]], r"must be \(N,\) or \(R, N\): got"),
        ([0, 1], [0, 1], [[0, 1], [0, 2]], r"group codes must lie in 0\.\.1, got 0\.\.2"),
        ([0, 1], [[0, 1], [3, 1]], [0, 1], r"prediction codes must lie in 0\.\.2, got 0\.\.3"),
    ],
)
def test_refusals_of_many_tables(label, prediction, group, words):
    with pytest.raises(ScpError, match=words):
        many_counts(label, prediction, group, num_classes=3)


@pytest.mark.parametrize(
    ("label", "prediction", "group", "words"),
    [
        ([0, 3], [0, 0], [0, 1], r"label codes must lie in 0\.\.2, got 0\.\.3"),
        ([0, -1], [0, 0], [0, 1], r"label codes must lie in 0\.\.2, got -1\.\.0"),
        ([0, 1], [0, 3], [0, 1], r"prediction codes must lie in 0\.\.2, got 0\.\.3"),
        ([0, 1], [-1, 0], [0, 1], r"prediction codes must lie in 0\.\.2, got -1\.\.0"),
        ([0, 1], [0, 1], [1, 2], r"group codes must lie in 0\.\.1, got 1\.\.2"),
        ([0, 1], [0, 1], [-1, 1], r"group codes must lie in 0\.\.1, got -1\.\.1"),
        ([0, 1, 1], [0, 1], [0, 1], "equally long and not empty: 3, 2, 2"),
        ([0, 1], [0, 1, 1], [0, 1], "equally long and not empty: 2, 3, 2"),
        ([0, 1], [0, 1], [0], "equally long and not empty: 2, 2, 1"),
        ([], [], [], "equally long and not empty: 0, 0, 0"),
        ([0, 1], [0.2, 0.9], [0, 1], r"^prediction: got 0\.2 \(2 of 2 are no whole numbers\); allowed .* argmax"),
        ([0, math.nan], [0, 1], [0, 1], r"^label: got nan \(1 of 2"),
        ([0, 1], [0, math.inf], [0, 1], r"^prediction: got inf \(1 of 2"),
        ([0, 1], [0, 1], ["m", "f"], r"^group: got 'm'; allowed are codes, 0 and 1\. Number the groups first"),
        ([0, 1], [0, 1], np.array([0, None]), r"^group: got None; allowed are codes"),
        ([0, 1], [0, 1], [[0], [1, 2]], r"^group: .* Allowed are codes as an array"),
        (
            [0, 1],
            torch.tensor([0.0, 1.0], requires_grad=True),
            [0, 1],
            r"^prediction: .* Allowed are codes as an array",
        ),
    ],
)
def test_refusals(label, prediction, group, words):
    with pytest.raises(ScpError, match=words):
        fairness_report(label, prediction, group, num_classes=3)


def test_probabilities_are_refused_by_every_entry_and_not_cut_to_class_0():
    label, probability, group = [0, 1, 1, 0] * 10, [0.2, 0.9, 0.8, 0.1] * 10, [0, 1, 0, 1] * 10
    words = r"^prediction: got 0\.2 \(40 of 40 are no whole numbers\)"
    with pytest.raises(ScpError, match=words):
        noise_floor(label, probability, group, num_classes=2)
    with pytest.raises(ScpError, match=words):
        paired_differences(label, group, [label], [probability], num_classes=2)
    with pytest.raises(ScpError, match=words):
        many_counts(label, [probability], group, num_classes=2)
    with pytest.raises(ScpError, match=r"^group: got 0\.2 "):
        fairness_report(label, label, probability, num_classes=2)


@pytest.mark.parametrize(
    "given",
    [
        lambda codes: [float(code) for code in codes],
        lambda codes: np.array(codes, dtype=np.uint8),
        lambda codes: np.array(codes, dtype=object),
        lambda codes: np.array(codes, dtype=bool),
        torch.tensor,
    ],
    ids=["floats", "uint8", "objects", "bool", "tensor"],
)
def test_whole_numbers_of_any_type_are_codes(given):
    """By hand: group 0 is right in 1 of 2, group 1 in 2 of 2."""
    label, prediction, group = [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 1, 1]
    report = fairness_report(*map(given, (label, prediction, group)), num_classes=2)
    assert report.accuracy.tolist() == [0.5, 1.0]
    assert report.support.tolist() == [[1, 1], [1, 1]]


def test_gap_by_name():
    report = fairness_report(*WORKED, num_classes=3)
    assert [report.gap(name) for name in ("eopp0", "eopp1", "eodd")] == pytest.approx([5 / 18, 2 / 3, 17 / 36])
    with pytest.raises(ValueError, match="eopp0, eopp1, eodd, got 'eodd_released'"):
        report.gap("eodd_released")


def test_row_of_a_table():
    report = fairness_report(*WORKED, num_classes=3)
    row = report.as_row("val_")
    assert all(key.startswith("val_") for key in row)
    assert row["val_n"] == 7
    expected = {"f1": 13 / 18, "f1_diff": 1 / 9, "f1_group0": 7 / 9, "f1_group1": 2 / 3, "accuracy": 17 / 24}
    expected |= {"recall_diff": 1 / 12, "precision": 19 / 24, "f1_fixed": 11 / 18, "f1_fixed_diff": 1 / 3}
    expected |= {"eodd": 17 / 36, "eopp1_released": 2 / 3, "eopp1_shared": 1 / 2, "accuracy_pooled": 5 / 7}
    assert {key: row[f"val_{key}"] for key in expected} == pytest.approx(expected)
    assert row["val_notes"] == "1 classes absent from group 1: their TPR counts as 0 in eopp1 and eodd"
    assert {key.removeprefix("val_"): value for key, value in row.items()} == report.as_row()
    json.dumps(row)  # plain numbers and text alone


@pytest.mark.parametrize(
    ("f1", "gap", "weight", "expected"),
    [
        (0.520, 0.139, 1.0, 0.255872),
        (0.510, 0.182, 1.0, 0.0),
        (0.510, 0.182, 3.0, 0.0),
        (0.520, 0.139, 0.0, 0.019608),
        (0.520, 0.139, 2.0, 0.492136),
        (0.408, 0.182, 1.0, -0.2),
        (0.510, 0.364, 1.0, -1.0),
        (0.510, 0.0, 1.0, 1.0),
    ],
)
def test_fate_by_hand(f1, gap, weight, expected):
    """Against the published F1 0.510 and Eodd 0.182: 0.520 / 0.510 - 0.139 / 0.182 = 1.019608 - 0.763736.

    With weight w: 0.019608 + w x 0.236264. F1 down by a fifth: -0.2. The gap doubled: -1; gone: +1.
    """
    result = fate(f1, gap, f1_baseline=0.510, gap_baseline=0.182, weight=weight)
    assert result == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"gap_baseline": 0.0}, "the baseline's gap is 0"),
        ({"f1_baseline": 0.0}, "the baseline's F1 is 0"),
        *(({name: math.nan}, "a metric is undefined") for name in ("f1", "gap", "f1_baseline", "gap_baseline")),
    ],
)
def test_undefined_fate_has_a_reason(numbers, reason):
    numbers = {"f1": 0.5, "gap": 0.1, "f1_baseline": 0.5, "gap_baseline": 0.1} | numbers
    assert math.isnan(fate(**numbers))
    assert fate_reason(**numbers) == reason


def test_defined_fate_has_no_reason():
    assert fate_reason(0.0, 0.0, f1_baseline=0.5, gap_baseline=0.1) == ""
