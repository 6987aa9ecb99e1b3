from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

import scp_ray
from scp_ray.errors import ScpError
from scp_ray.maths.report import fairness_report
from scp_ray.maths.uncertainty import EVIDENCE, FLOORED, evidence, noise_floor

# Class 0: right for both images of group 0, wrong for both of group 1; class 1: right for one image of each group.
LABEL, SAID, GROUP = [0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1]


def small_table(*, seed, units=25, classes=3):
    """Labels, answers, groups and units of one to three images; a unit is of one class and group, answered alike."""
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 4, size=units)
    unit = np.repeat(np.arange(units), size)
    label = rng.integers(classes, size=units)
    said = np.where(rng.random(units) < 0.6, label, rng.integers(classes, size=units))
    return label[unit], said[unit], (rng.random(units) < 0.4).astype(int)[unit], unit


def plain_permutation(label, group, unit, rng):
    """Codes exchanged between units of one class and size, one by one."""
    codes, kind = {}, {}
    for index, name in enumerate(unit):
        codes[name] = group[index]
        kind.setdefault(name, [label[index], 0])[1] += 1
    drawn = dict(codes)
    for one in {tuple(k) for k in kind.values()}:
        members = [name for name, k in kind.items() if tuple(k) == one]
        for name, other in zip(members, rng.permutation(members), strict=True):
            drawn[name] = codes[other]
    return np.array([drawn[name] for name in unit])


@pytest.mark.parametrize("gap", FLOORED)
def test_floor_by_hand(gap):
    """Class 0's four images are dealt to the groups in 6 ways: 1 and 1 keep the right ones together (TPR differs by 1),
    4 do not (by 0). All else is equal, so every gap is 1/2 in 2 of 6 ways and else 0: mean 1/6, p 1/3."""
    found = noise_floor(LABEL, SAID, GROUP, gap=gap, num_classes=2, permutations=6000)
    assert found.observed == pytest.approx(0.5)
    assert found.mean == pytest.approx(1 / 6, abs=0.012)  # 4 standard errors
    assert found.p_value == pytest.approx(1 / 3, abs=0.025)
    assert (found.low, found.high) == (0.0, pytest.approx(0.5))
    assert found.excess == pytest.approx(found.observed - found.mean)


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(["a", "a", "b", "b", "c", "d"], id="equal units: whole ones change places, which changes nothing"),
        pytest.param(["a", "a", "b", "e", "c", "d"], id="a unit whose size no other has stays"),
    ],
)
def test_units_are_permuted_whole(unit):
    """In both ways of dealing units the right answers stay together: the gap is 1/2 always, as observed."""
    found = noise_floor(LABEL, SAID, GROUP, num_classes=2, unit=unit, permutations=50)
    assert (found.mean, found.low, found.high) == (pytest.approx(0.5),) * 3
    assert found.p_value == 1.0
    assert found.excess == pytest.approx(0.0)


def test_a_unit_of_several_groups_or_classes_is_one_part_for_each():
    """Two units over both groups, one of which has an image of class 1: every part is a single image, as by hand."""
    found = noise_floor(LABEL, SAID, GROUP, num_classes=2, unit=[7, 8, 7, 8, 7, 9], permutations=6000)
    assert found.mean == pytest.approx(1 / 6, abs=0.012)


def test_floor_by_full_enumeration():
    """All ways of dealing 4 + 3 + 3 images of three classes, each class's group counts kept: 6 x 3 x 3 = 54."""
    label, said = [0] * 4 + [1] * 3 + [2] * 3, [0, 0, 1, 2, 1, 1, 0, 2, 0, 1]
    group = [0, 0, 1, 1, 0, 1, 1, 0, 0, 1]
    ways = [
        [int(i in chosen) for i in range(10)]
        for chosen in map(
            lambda parts: set(itertools.chain(*parts)),
            itertools.product(
                itertools.combinations(range(4), 2), itertools.combinations((4, 5, 6), 2), [(7,), (8,), (9,)]
            ),
        )
    ]
    assert len(ways) == 54
    for gap in FLOORED:
        null = np.array([getattr(fairness_report(label, said, way, num_classes=3), gap) for way in ways])
        found = noise_floor(label, said, group, gap=gap, num_classes=3, permutations=4000)
        error = null.std() / math.sqrt(4000)
        assert abs(found.mean - null.mean()) < 4 * error
        exact = (null >= found.observed - 1e-9).mean()
        assert abs(found.p_value - exact) < 4 * math.sqrt(exact * (1 - exact) / 4000) + 1 / 4000
        assert null.min() - 1e-9 <= found.low <= null.mean() <= found.high <= null.max() + 1e-9


def test_floor_against_a_plain_loop_over_reports():
    """Units of one to three images, in 1,500 permutations each; one permutation serves all gaps."""
    label, said, group, unit = small_table(seed=4)
    rng = np.random.default_rng(0)
    loop = [
        fairness_report(label, said, plain_permutation(label, group, unit, rng), num_classes=3) for _ in range(1500)
    ]
    rows = {
        row.metric: row for row in evidence(label, said, group, num_classes=3, unit=unit, permutations=1500, draws=2)
    }
    for gap in FLOORED:
        null = np.array([getattr(report, gap) for report in loop])
        row = rows[gap]
        assert row.observed == pytest.approx(getattr(fairness_report(label, said, group, num_classes=3), gap))
        assert abs(row.floor_mean - null.mean()) < 4 * null.std() * math.sqrt(2 / 1500)
        assert abs(row.floor_high - np.quantile(null, 0.975)) < 0.35 * null.std()
        assert abs(row.floor_low - np.quantile(null, 0.025)) < 0.35 * null.std()
        assert abs(row.p - (null >= row.observed - 1e-9).mean()) < 4 * math.sqrt(0.25 * 2 / 1500)


def test_fair_classifiers_have_uniform_p_values_where_units_are_permuted():
    """Answers common to a unit of four images: permuting images takes the units' luck for unfairness."""
    rng = np.random.default_rng(5)
    label = rng.integers(3, size=60)
    group, unit = (rng.random(60) < 0.4).astype(int), np.repeat(np.arange(60), 4)
    by_unit, by_image = [], []
    for seed in range(200):
        said = np.where(rng.random(60) < 0.6, label, rng.integers(3, size=60))
        data = label[unit], said[unit], group[unit]
        by_unit.append(noise_floor(*data, num_classes=3, unit=unit, permutations=99, seed=seed).p_value)
        by_image.append(noise_floor(*data, num_classes=3, permutations=99, seed=seed).p_value)
    p = np.array(by_unit)
    for level in (0.05, 0.25, 0.5, 0.75):  # ties only make a p-value larger
        assert (p <= level).mean() < level + 3.5 * math.sqrt(level * (1 - level) / 200)
    assert 0.4 < p.mean() < 0.65
    assert (np.array(by_image) <= 0.05).mean() > 0.15


def test_the_floor_of_the_published_table(shared: Path):
    """Fair classifiers of 54 % on Fitzpatrick-17k's test table: 0.159 +- 0.004 (simulated without this package)."""
    from benchmarks.planted_arms import read_table

    table, rng = read_table("fitzpatrick", shared / "data" / "metadata"), np.random.default_rng(0)
    count = len(table.label)
    means = []
    for _ in range(60):
        wrong = table.label[rng.integers(count, size=count)]
        said = np.where(rng.random(count) < 0.54, table.label, wrong)
        means.append(noise_floor(table.label, said, table.group, num_classes=114, permutations=60).mean)
    assert np.mean(means) == pytest.approx(0.159, abs=0.004)


def two_rates(first, second, *, each=200):
    """Two classes of ``each`` images in either group, right with exactly these rates: Eopp1 is their difference."""
    label = np.repeat([0, 1, 0, 1], each)
    group = np.repeat([0, 0, 1, 1], each)
    right = np.concatenate([np.arange(each) < round(rate * each) for rate in (first, first, second, second)])
    return label, np.where(right, label, 1 - label), group


def test_standard_error_of_a_large_gap_is_the_binomial_one():
    """Eopp1 is the mean of two differences of shares, 0.9 and 0.5 of 200: sqrt(2 (0.09 + 0.25) / 200) / 2 = 0.02915."""
    rows = {r.metric: r for r in evidence(*two_rates(0.9, 0.5), num_classes=2, permutations=50, draws=3000)}
    assert rows["eopp1"].observed == pytest.approx(0.4)
    assert rows["eopp1"].standard_error == pytest.approx(0.02915, rel=0.06)
    assert rows["eopp1"].p == pytest.approx(1 / 51)


def test_repeated_images_of_a_unit_tell_nothing_new():
    """Every image twice: with units the error stays, without them it is smaller by the root of 2."""
    table = two_rates(0.9, 0.5)
    twice = [np.repeat(x, 2) for x in table]
    unit = np.repeat(np.arange(800), 2)

    def error(data, **more):
        rows = evidence(*data, num_classes=2, permutations=50, draws=3000, **more)
        return np.array([row.standard_error for row in rows])

    once = error(table)
    assert error(twice, unit=unit) / once == pytest.approx(np.ones(5), rel=0.08)
    assert error(twice) / once == pytest.approx(np.full(5, math.sqrt(0.5)), rel=0.08)


@pytest.mark.parametrize("gap", [0.0, 0.4])
def test_intervals_hold_the_expected_value(gap):
    """120 classifiers of planted rates on one table with thin cells; the expected value is the mean over 1,000 more."""
    rng = np.random.default_rng(6)
    label, group = rng.choice(5, size=300, p=[0.4, 0.3, 0.2, 0.06, 0.04]), (rng.random(300) < 0.3).astype(int)
    rate = 0.6 + gap / 2 * np.where(group == 0, 1, -1)

    def draw(count):
        wrong = rng.integers(5, size=(count, 300))
        return np.where(rng.random((count, 300)) < rate, label, wrong)

    many = [fairness_report(label, said, group, num_classes=5) for said in draw(1000)]
    expected = {"f1": np.mean([r.f1_mean for r in many]), "eodd": np.mean([r.eodd for r in many])}
    held = dict.fromkeys(expected, 0)
    for said in draw(120):
        for row in evidence(label, said, group, num_classes=5, permutations=50, draws=80):
            if row.metric in held:
                held[row.metric] += row.low <= expected[row.metric] <= row.high
    for hits in held.values():
        assert hits / 120 > 0.93 - 2.5 * math.sqrt(0.93 * 0.07 / 120)


def test_rows_of_evidence():
    label, said, group, unit = small_table(seed=8)
    rows = evidence(label, said, group, num_classes=3, unit=unit, permutations=60, draws=40, seed=3)
    assert [row.metric for row in rows] == ["f1", "eopp0", "eopp1", "eodd", "eodd_sum_abs"] == list(EVIDENCE)
    for row in rows:
        assert (row.permutations, row.draws, row.seed) == (60, 40, 3)
        assert row.low == pytest.approx(row.observed - 1.959964 * row.standard_error)
        assert row.high == pytest.approx(row.observed + 1.959964 * row.standard_error)
    assert rows[0].observed == pytest.approx(fairness_report(label, said, group, num_classes=3).f1_mean)
    floors = (rows[0].floor_mean, rows[0].floor_low, rows[0].floor_high, rows[0].p, rows[0].excess)
    assert all(math.isnan(x) for x in floors)
    alone = noise_floor(label, said, group, gap="eopp1", num_classes=3, unit=unit, permutations=60, seed=3)
    assert (rows[2].floor_mean, rows[2].p, rows[2].excess) == (alone.mean, alone.p_value, alone.excess)


def test_seeds_decide():
    label, said, group, unit = small_table(seed=9)

    def made(seed):
        return evidence(label, said, group, num_classes=3, unit=unit, permutations=50, draws=50, seed=seed)[1:]

    assert made(1) == made(1)
    assert made(1)[2].floor_mean != made(2)[2].floor_mean
    assert made(1)[2].standard_error != made(2)[2].standard_error


def test_a_group_without_images_is_unknown():
    for row in evidence([0, 1, 1], [0, 1, 0], [1, 1, 1], num_classes=2, permutations=20, draws=5):
        numbers = (row.observed, row.floor_mean, row.p, row.excess, row.standard_error, row.low, row.high)
        assert all(math.isnan(x) for x in numbers[1:])
    with pytest.raises(ScpError, match="one of the groups has no images"):
        noise_floor([0, 1, 1], [0, 1, 0], [1, 1, 1], num_classes=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gap": "eod"}, "got 'eod'; allowed is one of eopp0, eopp1, eodd, eodd_sum_abs"),
        ({"permutations": 10}, "permutations: got 10; allowed are 20 or more"),
        ({"unit": [1, 2]}, r"equally long and not empty, got \[6, 6, 6, 2\]"),
        ({"prediction": SAID[:4]}, r"equally long and not empty, got \[6, 4, 6\]"),
        ({"group": [0, 0, 2, 1, 0, 1]}, r"group codes must lie in 0\.\.1, got 0\.\.2"),
        ({"num_classes": 1}, r"label codes must lie in 0\.\.0, got 0\.\.1"),
    ],
)
def test_refusals(change, words):
    with pytest.raises(ScpError, match=words):
        noise_floor(**({"label": LABEL, "prediction": SAID, "group": GROUP, "num_classes": 2} | change))


def test_public_names():
    assert scp_ray.noise_floor is noise_floor
    assert scp_ray.NoiseFloor.__dataclass_fields__.keys() == {"observed", "mean", "low", "high", "p_value", "excess"}
