from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

import scp_ray
from scp_ray.errors import ScpError
from scp_ray.maths.kinds import Kinds
from scp_ray.maths.paired_bootstrap import redrawn_metrics
from scp_ray.maths.rates import f1_mean
from scp_ray.maths.redrawn import standard_errors, thin_classes
from scp_ray.maths.report import fairness_report
from scp_ray.maths.uncertainty import EVIDENCE, FLOORED, NoiseFloor, _noise_share, evidence, noise_floor
from scp_ray.maths.units import Units

# class 0: two images in each group, right in group 0 and wrong in group 1; class 1: all right
LABEL, GROUP = [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 1, 1]
SAID = [0, 0, 1, 1, 1, 1, 1, 1]


def table(*, seed, count=300, classes=5, right=(0.6, 0.6), of_unit=1):
    """Labels, answers, groups and units of ``of_unit`` images that are answered alike."""
    rng = np.random.default_rng(seed)
    units = count // of_unit
    label, group = rng.integers(classes, size=units), (rng.random(units) < 0.4).astype(int)
    said = np.where(rng.random(units) < np.array(right)[group], label, rng.integers(classes, size=units))
    return [np.repeat(x, of_unit) for x in (label, said, group, np.arange(units))]


def kinds_of(label, said, group, unit, classes):
    units = Units(np.asarray(label), np.asarray(group), unit, num_classes=classes)
    return Kinds(np.asarray(label), np.asarray(said), units, num_classes=classes)


def test_a_null_by_hand():
    """The two right of class 0 lie in one group in 2 of 6 deals: TPR gap 1, else 0. Eopp1 is half of it: mean 1/6."""
    found = scp_ray.noise_floor(LABEL, SAID, GROUP, gap="eopp1", num_classes=2, permutations=6000)
    assert isinstance(found, scp_ray.NoiseFloor)
    assert found.observed == 0.5
    assert found.mean == pytest.approx(1 / 6, abs=0.012)  # 4 standard errors
    assert found.p_value == pytest.approx(1 / 3, abs=0.025)
    assert found.excess == pytest.approx(0.5 - found.mean)
    assert (found.low, found.high) == (0, 0.5)
    assert found.p_value == pytest.approx((1 + 2 * found.mean * 6000) / 6001)


def test_whole_lesions_are_permuted():
    """Class 0 is two lesions, one right and one wrong: whoever has which, the TPR gap is 1."""
    lesion = ["a", "a", "b", "b", "c", "c", "d", "d"]
    found = noise_floor(LABEL, SAID, GROUP, gap="eopp1", num_classes=2, unit=lesion, permutations=200)
    assert (found.mean, found.low, found.high, found.p_value, found.excess) == (0.5, 0.5, 0.5, 1.0, 0.0)


def test_a_lesion_that_mixes_groups_is_one_part_for_each():
    """Of the lesion 'a' an image lies in either group: two parts of one image, beside one of two, which stays."""
    kinds = kinds_of([0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 1], ["a", "a", "b", "b"], 2)
    assert sorted(kinds.size.tolist()) == [1, 1, 2]
    drawn = kinds.permuted(200, np.random.default_rng(0))
    pair = kinds.size == 2
    assert (drawn[:, :, pair] == [[[0], [1]]]).all()
    assert {tuple(row) for row in drawn[:, 0, ~pair].tolist()} == {(1.0, 0.0), (0.0, 1.0)}


@pytest.mark.parametrize("unit", [None, [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_null_is_that_of_full_enumeration(unit):
    """Every way to deal the codes within class and size, each as a table of its own."""
    label = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2])
    said = np.array([0, 1, 0, 2, 0, 1, 1, 1, 2, 0, 2])
    group = np.array([0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1])
    unit = np.arange(11) if unit is None else np.array(unit)
    names, size = np.unique(unit, return_counts=True)
    first = [int(np.flatnonzero(unit == name)[0]) for name in names]
    strata = {}
    for name, at in zip(names, first, strict=True):
        strata.setdefault((label[at], size[name]), []).append(at)
    reports = []
    for deal in itertools.product(
        *(itertools.combinations(members, int(group[members].sum())) for members in strata.values())
    ):
        dark = set(itertools.chain(*deal))
        code = np.array([int(first[name] in dark) for name in unit])
        reports.append(fairness_report(label, said, code, num_classes=3))
    seen = fairness_report(label, said, group, num_classes=3)
    for gap in FLOORED:
        values, observed = np.array([getattr(report, gap) for report in reports]), getattr(seen, gap)
        share = np.mean(values >= observed - 1e-9)
        found = noise_floor(label, said, group, gap=gap, num_classes=3, unit=unit, permutations=4000)
        assert found.observed == pytest.approx(observed)
        assert found.mean == pytest.approx(values.mean(), abs=4 * values.std() / math.sqrt(4000) + 1e-12), gap
        assert found.p_value == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000) + 3e-4), gap


@pytest.mark.parametrize("of_unit", [1, 3])
def test_permutations_keep_the_images_of_every_cell(of_unit):
    label, said, group, unit = table(seed=1, of_unit=of_unit)
    unit = np.where(np.arange(len(unit)) < 60, unit, 1000 + np.arange(len(unit)))  # sizes differ
    kinds = kinds_of(label, said, group, unit, 5)
    drawn = kinds.permuted(50, np.random.default_rng(0))
    for code, c in itertools.product((0, 1), range(5)):
        images = (drawn[:, code] * kinds.size * (kinds.label == c)).sum(1)
        assert (images == np.sum((label == c) & (group == code))).all()
    assert (drawn.sum(1) == kinds.count.sum(0)).all()
    assert (drawn != drawn[0]).any()


@pytest.mark.parametrize("of_unit", [1, 2])
def test_counts_of_redrawn_units_are_those_of_their_images(of_unit):
    """Each drawn kind written out as images, and counted by fairness_report."""
    label, said, group, unit = table(seed=2, count=120, classes=3, of_unit=of_unit)
    said = np.where(np.arange(len(said)) % 7 == 0, 2, said)  # answers differ within units
    kinds = kinds_of(label, said, group, unit, 3)
    for drawn in (kinds.redrawn(5, np.random.default_rng(0)), kinds.permuted(5, np.random.default_rng(0))):
        counts = kinds.counts(drawn)
        for row in range(5):
            images = [
                (label[at], said[at], code)
                for code, kind in itertools.product((0, 1), range(len(kinds.label)))
                for at in np.flatnonzero(kinds.units.of_image == np.flatnonzero(kinds.of_part == kind)[0])
                for _ in range(round(drawn[row, code, kind]))
            ]
            report = fairness_report(*zip(*images, strict=True), num_classes=3)
            assert counts.tp[row].sum() == sum(y == p for y, p, _ in images)
            assert (counts.support[row] == report.support).all()
            shares = counts.tp[row] / counts.support[row]
            assert shares.mean(1).tolist() == pytest.approx(report.recall.tolist())


@pytest.mark.parametrize("of_unit", [1, 3])
def test_kinds_spread_as_units_do(of_unit):
    """Against drawing each unit by itself."""
    label, said, group, unit = table(seed=3, count=240, classes=3, of_unit=of_unit, right=(0.8, 0.5))
    unit = np.where(np.arange(len(unit)) < 120, unit, 1000 + np.arange(len(unit)))
    kinds = kinds_of(label, said, group, unit, 3)
    rng = np.random.default_rng(0)
    slow = redrawn_metrics(label, said[None], kinds.units, num_classes=3, draws=4000, rng=rng)["f1"][:, 0]
    fast = f1_mean(kinds.counts(kinds.redrawn(4000, rng)))
    assert fast.mean() == pytest.approx(slow.mean(), abs=4 * slow.std() * math.sqrt(2 / 4000))
    assert fast.std() == pytest.approx(slow.std(), rel=0.06)


def test_thin_cells_draw_from_their_class_as_well():
    """A cell of n draws with probability 2 / n from both groups. Four images of group 0, half right, beside four right
    ones: 1/2 x 1/2 + 1/2 x 3/4 = 5/8 and 1/2 + 1/2 x 3/4 = 7/8 right. A lone image is drawn from the class alone.
    """
    kinds = kinds_of([0] * 8 + [1] * 4, [0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0], [0] * 4 + [1] * 4 + [0, 1, 1, 1], None, 2)
    rate = kinds.counts(kinds.redrawn(8000, np.random.default_rng(0))).tpr
    for (group, c), right, count in (((0, 0), 5 / 8, 4), ((1, 0), 7 / 8, 4), ((0, 1), 1 / 4, 1), ((1, 1), 1 / 6, 3)):
        spread = math.sqrt(right * (1 - right) / count)
        assert rate[:, group, c].mean() == pytest.approx(right, abs=4 * spread / math.sqrt(8000))
        assert rate[:, group, c].std() == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("noise", [0.0, 0.25, 1.0])
def test_the_variances_of_a_gap_are_mixed(noise):
    """Class 0 is half right in both groups of 200, class 1 all right. Half the TPR difference d has variance
    2 x 1/4 / 200 / 4; of its absolute value, nearly that of a normal number, 1 - 2 / pi is left.
    """
    label, group = np.repeat([0, 1, 0, 1], 200), np.repeat([0, 0, 1, 1], 200)
    kinds = kinds_of(label, np.where(np.arange(800) % 2 == 0, 1, label), group, None, 2)
    found = standard_errors(kinds, {"eopp1": noise}, 8000, np.random.default_rng(0))["eopp1"]
    expected = 0.25 / 400 * (1 - noise + noise * (1 - 2 / math.pi))
    assert found == pytest.approx(math.sqrt(expected), rel=0.04)


def test_the_noise_of_a_gap_is_its_floors_share_of_the_square():
    def share(observed):
        return _noise_share(NoiseFloor(observed, mean=0.1, low=0, high=0.2, p_value=0.5, excess=observed - 0.1))

    assert [share(x) for x in (0.0, 0.05, 0.1, 0.2)] == pytest.approx([1, 1, 1, 1 / 4])


def test_f1_makes_up_for_thin_classes():
    """Twelve classes of five images: 1 - 1/5 of a variance is left when they are redrawn."""
    rng = np.random.default_rng(10)
    label, group = np.repeat(np.arange(12), 5), np.tile([0, 0, 0, 1, 1], 12)
    said = np.where(rng.random(60) < 0.6, label, rng.integers(12, size=60))
    units = Units(label, group, None, num_classes=12)
    plain = redrawn_metrics(label, said[None], units, num_classes=12, draws=4000, rng=rng)["f1"].std()
    found = evidence(label, said, group, num_classes=12, draws=4000)[0].standard_error
    assert found == pytest.approx(plain / math.sqrt(1 - 1 / 5), rel=0.06)


def test_the_standard_error_of_a_gap_is_that_of_a_binomial():
    """Eopp1 is half of |TPR 0.5 - 1| of class 0, all else is right. Its cells of 40 draw with probability 2 / 40 from
    the whole class, right in 0.75: group 0 is right in 0.5125 of its draws then, group 1 in 0.9875.
    """
    label, group = np.repeat([0, 1, 0, 1], 40), np.repeat([0, 0, 1, 1], 40)
    said = np.where((np.arange(160) < 40) & (np.arange(160) % 2 == 0), 1, label)
    found = {each.metric: each for each in evidence(label, said, group, num_classes=2, draws=8000)}["eopp1"]
    assert found.observed == 0.25
    expected = math.sqrt((0.5125 * 0.4875 + 0.9875 * 0.0125) / 40) / 2
    assert found.standard_error == pytest.approx(expected, rel=0.035)
    assert (found.low, found.high) == pytest.approx(
        (0.25 - 1.959964 * found.standard_error, 0.25 + 1.959964 * found.standard_error)
    )


def test_an_answer_common_to_a_lesion_is_one_answer():
    """Every image three times: told so, the standard errors are those of the images alone."""
    label, said, group, unit = table(seed=4, count=200, classes=3)
    alone = evidence(label, said, group, num_classes=3, draws=4000)
    label, said, group, unit = (np.repeat(x, 3) for x in (label, said, group, unit))
    thrice = evidence(label, said, group, num_classes=3, unit=unit, draws=4000)
    blind = evidence(label, said, group, num_classes=3, draws=4000)
    for one, same, wrong in zip(alone, thrice, blind, strict=True):
        assert same.observed == pytest.approx(one.observed)
        assert same.standard_error == pytest.approx(one.standard_error, rel=0.06)
        if one.metric == "f1":
            assert wrong.standard_error == pytest.approx(one.standard_error / math.sqrt(3), rel=0.1)


def test_thin_classes_by_hand():
    """Two and four units: (1/2 + 1/4) / (1/2 x 1/2 + 1/4 x 3/4) = 12/7. One unit of two images and two of one: 6/16."""
    units = Units(np.array([0, 0, 2, 2, 2, 2]), np.array([0, 1, 0, 0, 1, 1]), None, num_classes=4)
    assert thin_classes(units) == pytest.approx(12 / 7)
    units = Units(np.zeros(4, int), np.array([0, 0, 0, 1]), [0, 0, 1, 2], num_classes=1)
    assert thin_classes(units) == pytest.approx(1 / (1 - 6 / 16))
    assert thin_classes(Units(np.array([0, 1]), np.array([0, 1]), None, num_classes=2)) == 1.0


def test_a_fair_classifier_is_seldom_called_unfair_if_its_lesions_are_known():
    """400 fair classifiers, lesions of three images answered alike; at 5 %, 3.3 standard errors are 0.036."""
    p, blind = [], []
    for seed in range(400):
        label, said, group, unit = table(seed=seed, of_unit=3)
        p.append(noise_floor(label, said, group, num_classes=5, unit=unit, permutations=99).p_value)
        if seed < 100:
            blind.append(noise_floor(label, said, group, num_classes=5, permutations=99).p_value)
    assert np.mean(np.array(p) <= 0.05) <= 0.086
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)
    assert np.mean(np.array(blind) <= 0.05) > 0.15


def test_an_unfair_classifier_is_called_so():
    label, said, group, _ = table(seed=5, right=(0.9, 0.5))
    found = noise_floor(label, said, group, num_classes=5)
    assert found.p_value == pytest.approx(1 / 1001)
    assert found.observed > found.high > found.mean > found.low > 0


def test_fair_by_construction_on_the_published_table(published: Path):
    """54 % right whatever the group, else a label drawn from the labels: Eodd 0.160 of nothing but noise."""
    with (published / "fitzpatrick17k_test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    label = np.array([int(float(row["low"])) for row in rows])
    group = np.array([int(float(row["fitzpatrick"]) not in (1, 2, 3)) for row in rows])
    assert (len(label), group.sum(), label.max()) == (1657, 531, 113)
    rng = np.random.default_rng(0)
    means = []
    for _ in range(60):
        said = np.where(rng.random(1657) < 0.54, label, rng.choice(label, 1657))
        means.append(noise_floor(label, said, group, num_classes=114, permutations=100).mean)
    assert np.mean(means) == pytest.approx(0.159, abs=0.004)


@pytest.mark.parametrize("right", [(0.7, 0.7), (0.8, 0.4)])
def test_intervals_hold_what_is_expected_on_this_table(right):
    """250 classifiers on one table of 4 classes; its own mean over all of them is what each interval should hold."""
    label, _, group, _ = table(seed=6, count=200, classes=4)
    rng = np.random.default_rng(7)
    found, bands = {"f1_mean": [], "eodd": []}, {"f1_mean": [], "eodd": []}
    for seed in range(250):
        said = np.where(rng.random(200) < np.array(right)[group], label, rng.integers(4, size=200))
        report = fairness_report(label, said, group, num_classes=4)
        said_of = {each.metric: each for each in evidence(
            label, said, group, num_classes=4, permutations=50, draws=150, seed=seed
        )}  # fmt: skip
        for ours, theirs in (("f1", "f1_mean"), ("eodd", "eodd")):
            assert said_of[ours].observed == pytest.approx(getattr(report, theirs))
            found[theirs].append(said_of[ours].observed)
            bands[theirs].append((said_of[ours].low, said_of[ours].high, said_of[ours].standard_error))
    for name, values in found.items():
        low, high, error = np.array(bands[name]).T
        held = np.mean((low <= np.mean(values)) & (np.mean(values) <= high))
        assert held > 0.9, name
        assert 0.85 < error.mean() / np.std(values) < 1.35, name


def test_seeds():
    label, said, group, unit = table(seed=8)
    one, two, other = (evidence(label, said, group, num_classes=5, unit=unit, seed=seed) for seed in (3, 3, 4))
    assert one == two
    assert one[0].standard_error != other[0].standard_error
    assert one[3].floor_mean != other[3].floor_mean
    floor = noise_floor(label, said, group, num_classes=5, unit=unit, gap="eodd", seed=3)
    (eodd,) = (each for each in one if each.metric == "eodd")
    seen = (eodd.observed, eodd.floor_mean, eodd.floor_low, eodd.floor_high, eodd.p, eodd.excess)
    assert seen == (floor.observed, floor.mean, floor.low, floor.high, floor.p_value, floor.excess)
    assert (eodd.permutations, eodd.draws, eodd.seed) == (1000, 1000, 3)


def test_metrics_of_evidence_and_what_f1_lacks():
    label, said, group, _ = table(seed=9)
    found = evidence(label, said, group, num_classes=5, permutations=50, draws=50)
    assert [each.metric for each in found] == ["f1", "eopp0", "eopp1", "eodd", "eodd_sum_abs"] == list(EVIDENCE)
    f1 = found[0]
    assert all(map(math.isnan, (f1.floor_mean, f1.floor_low, f1.floor_high, f1.p, f1.excess)))
    assert f1.low < f1.observed < f1.high


@pytest.mark.parametrize("code", [0, 1])
def test_a_group_without_images_has_no_evidence(code):
    found = evidence([0, 1, 1], [0, 1, 0], [code] * 3, num_classes=2)
    assert [each.metric for each in found] == list(EVIDENCE)
    for each in found:
        assert all(map(math.isnan, (each.observed, each.floor_mean, each.p, each.standard_error, each.low)))
        assert (each.permutations, each.draws, each.seed) == (1000, 1000, 0)
    with pytest.raises(ScpError, match="one of the groups has no images"):
        noise_floor([0, 1, 1], [0, 1, 0], [code] * 3, num_classes=2)


@pytest.mark.parametrize("said", [LABEL, [1] * 8])
def test_answers_that_permutation_does_not_change(said):
    """All right, or all called class 1: no gap, none in the null, whatever K is."""
    for each in evidence(LABEL, said, GROUP, num_classes=7, permutations=40, draws=40)[1:]:
        assert (each.observed, each.floor_mean, each.excess, each.p, each.standard_error) == (0, 0, 0, 1, 0)


def test_a_class_that_a_group_lacks():
    """Class 1 is all in group 1 and right: Eopp1 is 1/2, in every permutation."""
    found = noise_floor([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1], gap="eopp1", num_classes=2, permutations=40)
    assert (found.observed, found.mean, found.p_value) == (0.5, 0.5, 1.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"gap": "f1"}, "gap: got 'f1'; allowed is one of eopp0, eopp1, eodd, eodd_sum_abs"),
        ({"permutations": 19}, "permutations: got 19; allowed are 20 or more"),
        ({"unit": [1, 2]}, r"equally long and not empty, got \[8, 8, 8, 2\]"),
        ({"unit": [1.0, math.nan, 2, 3, 4, 5, 6, math.nan]}, "unit: 2 images have none"),
        ({"unit": ["a", None, "b", "c", "d", "e", "f", "g"]}, "unit: 1 images have none"),
        ({"prediction": [0]}, r"equally long and not empty, got \[8, 1, 8\]"),
        ({"num_classes": 1}, r"label codes must lie in 0\.\.0, got 0\.\.1"),
        ({"prediction": [2] * 8}, r"prediction codes must lie in 0\.\.1, got 2\.\.2"),
        ({"group": [0, 2] * 4}, r"group codes must lie in 0\.\.1, got 0\.\.2"),
    ],
)
def test_refusals(changed, words):
    given = {"label": LABEL, "prediction": SAID, "group": GROUP, "num_classes": 2} | changed
    with pytest.raises(ScpError, match=words):
        noise_floor(**given)


def test_too_few_draws():
    with pytest.raises(ScpError, match="draws: got 1; allowed are 2 or more"):
        evidence(LABEL, SAID, GROUP, num_classes=2, draws=1)
