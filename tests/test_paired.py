from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scp_ray.errors import ScpError
from scp_ray.maths.fate import fate
from scp_ray.maths.paired import (
    fate_of,
    gap_note,
    half_width,
    higher_is_better,
    holm,
    paired_differences,
    satterthwaite,
    verdict,
)
from scp_ray.maths.report import fairness_report
from scp_ray.maths.units import Units

# two classes, two images of each in either group: wrong by whole classes only, so that redrawn images change nothing
LABEL, GROUP = [0, 0, 1, 1, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]
RIGHT, ALL_ZERO = LABEL, [0] * 8


def table(*, seed, count=400, classes=3, right=(0.7, 0.7), flipped=0.3, seeds=3):
    """Labels, groups and answers (S, N) of two arms that answer most images alike."""
    rng = np.random.default_rng(seed)
    label, group = rng.integers(classes, size=count), (rng.random(count) < 0.4).astype(int)

    def answers(share):
        return np.where(rng.random((seeds, count)) < share, label, (label + rng.integers(1, classes)) % classes)

    first = answers(right[0])
    return label, group, first, np.where(rng.random((seeds, count)) < flipped, answers(right[1]), first)


def test_the_interval_is_a_t_interval_where_images_make_no_noise():
    """F1 is 1 where all is right. All called class 0: 2/3 and 0 in each group, so 1/3. D = 0, 2/3, 2/3:
    mean 4/9, variance 12/81, standard error 2/9, t = 2 with 2 degrees of freedom, t(97.5 %) = 4.302653.
    p = 1 - t / sqrt(2 + t^2) = 1 - 2 / sqrt(6).
    """
    found = paired_differences(LABEL, GROUP, [RIGHT] * 3, [RIGHT, ALL_ZERO, ALL_ZERO], num_classes=2, draws=20)["f1"]
    assert (found.first, found.second) == pytest.approx((1, 5 / 9))
    assert found.difference == pytest.approx(4 / 9)
    assert found.standard_error == pytest.approx(2 / 9)
    assert found.degrees == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((4 / 9 - 0.956145, 4 / 9 + 0.956145), abs=1e-6)
    assert found.p_value == pytest.approx(1 - 2 / math.sqrt(6))
    assert (found.metric, found.seeds, found.units) == ("f1", 3, 8)


def test_the_images_share_is_that_of_a_binomial():
    """Eopp1 is half of |TPR 0.5 - 1| of class 0, all else is right. Its cells of 40 draw with probability 2 / 40 from
    the whole class, right in 0.75: group 0 is right in 0.5125 of its draws then, group 1 in 0.9875.
    """
    label, group = np.repeat([0, 1, 0, 1], 40), np.repeat([0, 0, 1, 1], 40)
    first = np.where((np.arange(160) < 40) & (np.arange(160) % 2 == 0), 1, label)
    found = paired_differences(label, group, first[None], label[None], num_classes=2, draws=10_000)["eopp1"]
    assert found.difference == pytest.approx(0.25)
    variance = (0.5125 * 0.4875 + 0.9875 * 0.0125) / 40
    assert found.standard_error == pytest.approx(math.sqrt(variance) / 2, rel=0.03)


def test_what_images_do_to_all_seeds_alike_does_not_average_out():
    label, group, first, second = table(seed=0, seeds=1)
    alone = paired_differences(label, group, first, second, num_classes=3)
    same = paired_differences(label, group, [first[0]] * 4, [second[0]] * 4, num_classes=3)
    for name in alone:
        assert same[name].standard_error == pytest.approx(alone[name].standard_error)


def test_what_images_do_to_each_seed_apart_is_counted_once():
    """Wrong answers drawn anew for each of 40 seeds: the seeds' variance holds all noise there is."""
    label, group, first, second = table(seed=1, seeds=40, count=300)
    found = paired_differences(label, group, first, second, num_classes=3)["f1"]
    f1 = [[fairness_report(label, row, group, num_classes=3).f1_mean for row in arm] for arm in (first, second)]
    by_seed = np.subtract(*f1)
    assert found.difference == pytest.approx(np.mean(by_seed))
    assert found.standard_error == pytest.approx(np.std(by_seed, ddof=1) / math.sqrt(40), rel=0.15)


def test_whole_units_are_drawn():
    """Each image four times over is no more to go by than once."""
    label, group, first, second = table(seed=2)
    once = paired_differences(label, group, first, second, num_classes=3)
    label, group, unit = (np.repeat(x, 4) for x in (label, group, np.arange(len(label))))
    first, second = first.repeat(4, axis=1), second.repeat(4, axis=1)
    whole = paired_differences(label, group, first, second, num_classes=3, unit=unit)
    apart = paired_differences(label, group, first, second, num_classes=3)
    for name in once:
        assert whole[name].standard_error == pytest.approx(once[name].standard_error)
        assert whole[name].units == 400
    assert apart["f1"].units == 1600
    assert apart["f1"].standard_error < once["f1"].standard_error


def test_every_cell_keeps_its_images_whatever_units_are_drawn():
    """Units of one to five images, some of which mix classes: these count as a part of each."""
    rng = np.random.default_rng(3)
    label, group, unit = rng.integers(4, size=200), rng.integers(2, size=200), rng.integers(70, size=200)
    units = Units(label, group, unit, num_classes=4)
    weight = units.weights(50, rng)
    of_class = np.eye(4)[units.cell // 2]
    images = np.einsum("rgu,u,uc->rcg", weight, units.size, of_class)
    assert np.allclose(images, np.bincount(label * 2 + group, minlength=8).reshape(4, 2))
    assert (units.count, units.size.sum()) == (len(np.unique(unit)), 200)
    assert np.ptp(weight, axis=0).max() > 0


def test_a_cell_of_one_image_is_not_without_noise():
    """Class 0 has one image in group 1 and ten in group 0: alone it would be drawn again and again."""
    label, group = np.repeat([0, 0, 1, 1], [10, 1, 10, 10]), np.repeat([0, 1, 0, 1], [10, 1, 10, 10])
    first = np.where(np.arange(31) < 2, 1, label)
    found = paired_differences(label, group, first[None], label[None], num_classes=2, draws=4000)["eopp1"]
    # Half of |TPR_0 - TPR_1|. The one image is drawn from its class, right in 9 of 11; of the ten 2 / 10 are too
    right = 0.8 * 0.8 + 0.2 * 9 / 11
    between = 9 / 11 * 2 / 11 * (right - (1 - right)) ** 2  # TPR_1 is 1 or 0, the gap 1 - TPR_0 or TPR_0
    assert found.standard_error == pytest.approx(math.sqrt(between + right * (1 - right) / 10) / 2, rel=0.03)


def test_values_are_those_of_the_report_and_of_fate():
    label, group, first, second = table(seed=4, seeds=2)
    base = table(seed=5, seeds=2)[2]
    found = paired_differences(
        label, group, first, second, num_classes=3, baseline_first=base, baseline_second=base[::-1], draws=20
    )
    told = {
        name: [fairness_report(label, row, group, num_classes=3) for row in rows]
        for name, rows in {"first": first, "second": second, "base": base}.items()
    }
    for gap in ("eopp0", "eopp1", "eodd"):
        assert found[gap].first == pytest.approx(np.mean([x.gap(gap) for x in told["first"]]))
        assert found[gap].second == pytest.approx(np.mean([x.gap(gap) for x in told["second"]]))

    def by_hand(arm, bases):
        return np.mean([
            fate(x.f1_mean, x.eodd, f1_baseline=b.f1_mean, gap_baseline=b.eodd) for x, b in zip(arm, bases, strict=True)
        ])  # fmt: skip

    # the constant of FATE, 1 - 1, cancels
    assert found["fate_eodd"].first == pytest.approx(by_hand(told["first"], told["base"]))
    assert found["fate_eodd"].second == pytest.approx(by_hand(told["second"], told["base"][::-1]))


def test_fate_moves_as_it_does_by_its_definition():
    """Two arms and their baselines, each moved by a thousandth or less: F1_m / F1_b - gap_m / gap_b there and here."""
    f1, gap = np.array([0.5, 0.4, 0.45, 0.55])[:, None], np.array([0.1, 0.2, 0.16, 0.25])[:, None]
    steps = 1e-3 * np.array([[1.0, -0.5, 0.3, 0.8], [-0.4, 0.9, 0.7, -1.0]])
    moved = {"f1": np.stack([f1, f1 + steps[0][:, None]]), "eodd": np.stack([gap, gap + steps[1][:, None]])}
    _, differences = fate_of({"f1": f1, "eodd": gap}, moved)

    def by_definition(row):
        f1, gap = moved["f1"][row, :, 0], moved["eodd"][row, :, 0]
        return (f1[0] / f1[2] - gap[0] / gap[2]) - (f1[1] / f1[3] - gap[1] / gap[3])

    assert differences[1] - differences[0] == pytest.approx(by_definition(1) - by_definition(0), rel=0.02)


def test_the_excess_gap_is_less_the_floors():
    label, group, first, second = table(seed=6)
    floors = {"eodd": ([0.03, 0.04, 0.05], [0.01, 0.01, 0.04])}
    found = paired_differences(label, group, first, second, num_classes=3, floors=floors)
    assert found["excess_eodd"].difference == pytest.approx(found["eodd"].difference - 0.02)
    assert found["excess_eodd"].first == pytest.approx(found["eodd"].first - 0.04)


def test_swapped_arms_change_the_sign_alone():
    label, group, first, second = table(seed=7, right=(0.8, 0.6))
    forward = paired_differences(label, group, first, second, num_classes=3)
    back = paired_differences(label, group, second, first, num_classes=3)
    for name, found in forward.items():
        assert (back[name].difference, back[name].low) == pytest.approx((-found.difference, -found.high))
        assert back[name].p_value == pytest.approx(found.p_value)


def test_an_arm_is_not_distinguishable_from_itself():
    label, group, first, _ = table(seed=8)
    for found in paired_differences(label, group, first, first, num_classes=3).values():
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
        words = verdict(found.difference, found.p_value, higher_is_better=True, seeds=3)
        assert words == "not distinguishable at this n"


def test_the_same_seed_gives_the_same_numbers():
    label, group, first, second = table(seed=9)
    assert paired_differences(label, group, first, second, num_classes=3) == paired_differences(
        label, group, first, second, num_classes=3
    )
    other = paired_differences(label, group, first, second, num_classes=3, seed=1)
    assert other != paired_differences(label, group, first, second, num_classes=3)


def test_a_group_without_images_leaves_nothing_to_say():
    label, _, first, second = table(seed=10)
    found = paired_differences(label, np.zeros(400, dtype=int), first, second, num_classes=3, draws=20)
    for name in ("f1", "eopp0", "eopp1", "eodd"):
        assert math.isnan(found[name].difference)
        assert math.isnan(found[name].p_value)
        assert verdict(found[name].difference, found[name].p_value, higher_is_better=True, seeds=3).startswith("not")


def test_every_variance_has_its_own_quantile():
    """t(97.5 %) is 4.302653 with 2 degrees of freedom and 1.959964 with endless ones."""
    assert half_width([0.04, 0.09], [2, 1e9], 0.05) == pytest.approx(math.hypot(0.2 * 4.302653, 0.3 * 1.959964))
    assert half_width([0.04, 0.0], [2, 5], 0.05) == pytest.approx(0.2 * 4.302653)


def test_p_is_the_level_whose_interval_ends_at_zero():
    label, group, first, second = table(seed=13, right=(0.8, 0.6))
    found = paired_differences(label, group, first, second, num_classes=3)["f1"]
    by_seed = np.subtract(
        *[[fairness_report(label, row, group, num_classes=3).f1_mean for row in arm] for arm in (first, second)]
    )
    seeds = by_seed.var(ddof=1) / 3
    quantiles = stats.t.ppf(1 - found.p_value / 2, [2, 394])
    both = np.sqrt([seeds, found.standard_error**2 - seeds])
    assert found.difference == pytest.approx(math.hypot(*(quantiles * both)), rel=1e-6)
    assert found.low == pytest.approx(found.difference - math.hypot(*(stats.t.ppf(0.975, [2, 394]) * both)))


def test_satterthwaite_is_welchs():
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=5), rng.normal(scale=4, size=9)
    shares = [a.var(ddof=1) / 5, b.var(ddof=1) / 9]
    assert satterthwaite(shares, [4, 8]) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).df)
    assert satterthwaite([0, 0], [4, 8]) == math.inf


def test_holm_by_hand():
    """In order 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1 is below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([0.7, 0.8]) == [1, 1]
    assert holm([]) == []
    undefined = holm([0.02, math.nan, 0.03])
    assert undefined[::2] == pytest.approx([0.04, 0.04])
    assert math.isnan(undefined[1])
    with pytest.raises(ScpError, match=r"must lie in \[0, 1\]"):
        holm([0.1, 1.1])


@pytest.mark.parametrize(
    ("difference", "p", "higher", "words"),
    [
        (0.1, 0.04, True, "better"),
        (-0.1, 0.04, True, "worse"),
        (-0.1, 0.04, False, "better"),
        (0.1, 0.04, False, "worse"),
        (0.1, 0.05, True, "not distinguishable at this n"),
        (0.1, 0.9, False, "not distinguishable at this n"),
    ],
)
def test_the_words(difference, p, higher, words):
    assert verdict(difference, p, higher_is_better=higher, seeds=2) == words
    assert verdict(difference, p, higher_is_better=higher, seeds=1) == f"{words} for this one training"


def test_which_way_a_metric_points():
    assert all(higher_is_better(x) for x in ("f1", "fate_eodd"))
    assert not any(higher_is_better(x) for x in ("eodd", "excess_eodd", "eopp1"))


def test_a_gap_that_accuracy_explains():
    unknown = "not distinguishable at this n"
    assert gap_note("better", unknown) == "the smaller gap is explained by accuracy"
    assert gap_note("worse", unknown) == "the larger gap is explained by accuracy"
    assert gap_note("better for this one training", "worse for this one training").startswith("the smaller gap")
    assert gap_note("better", "better") == gap_note(unknown, unknown) == ""
    assert gap_note(unknown, "better") == "the raw gap does not show it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second": [[0, 0, 1]] * 2}, r"the same seeds in every arm: got \[\(3, 8\), \(2, 3\)\]"),
        ({"first": RIGHT}, r"predictions must be \(seeds, 8\)"),
        ({"group": [0, 1]}, "equally long: 8, 2"),
        ({"unit": [0]}, "equally long"),
        ({"baseline_first": [RIGHT] * 3}, "baseline_second"),
        ({"floors": {"eodd": ([0.1], [0.1])}}, r"must be \(2, 3\)"),
        ({"floors": {"f1": ([0.1] * 3, [0.1] * 3)}}, "eopp0, eopp1, eodd"),
        ({"draws": 1}, "2 or more"),
        ({"num_classes": 1}, r"label codes must lie in 0..0, got 0..1"),
    ],
)
def test_a_wrong_request_is_told(change, message):
    given = {"label": LABEL, "group": GROUP, "first": [RIGHT] * 3, "second": [ALL_ZERO] * 3, "num_classes": 2}
    with pytest.raises(ScpError, match=message):
        paired_differences(**(given | change))


def test_intervals_cover():
    """Images redrawn, three trainings of each arm with noise of their own; the truth is the mean over 4,000 pairs.

    Of 200 intervals 190 are expected to hold it, and 179 to 198 do with probability 0.9995. Sizes are in benchmarks.
    """
    rng = np.random.default_rng(12)
    label, group = np.repeat([0, 1, 2], [150, 90, 60]), np.tile([0, 0, 1], 100)
    right = {"first": np.array([0.8, 0.65]), "second": np.array([0.7, 0.7])}

    def draw(seeds, tables=1):
        hard = rng.random((tables, 300))
        found = []
        for share in right.values():
            bar = (share + 0.03 * rng.standard_normal((seeds, 2)))[:, group]
            level = np.where(rng.random((seeds, 300)) < 0.5, hard, rng.random((seeds, 300)))
            found.append(np.where(level < bar, label, (label + rng.integers(1, 3, size=(seeds, 300))) % 3))
        return found

    def truth(name):
        pairs = paired_differences(label, group, *draw(4000, tables=4000), num_classes=3, draws=2)
        return pairs[name].difference

    names = ("f1", "eodd")
    true = {name: truth(name) for name in names}
    held = dict.fromkeys(names, 0)
    for run in range(200):
        found = paired_differences(label, group, *draw(3), num_classes=3, draws=100, seed=run)
        for name in names:
            held[name] += found[name].low <= true[name] <= found[name].high
    assert all(179 <= count <= 198 for count in held.values()), held
