from __future__ import annotations

import csv
import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from scp_ray.errors import ScpError
from scp_ray.maths.advice import advice
from scp_ray.maths.planted_pairs import image_variance, planted_pairs
from scp_ray.maths.power import detectable_difference, smallest_difference, with_arms, with_seeds


@pytest.fixture(scope="module")
def fitzpatrick(shared):
    """Labels of three levels, (N,) each, and groups of the published test table; by name."""
    with (shared / "data" / "metadata" / "fitzpatrick17k_test.csv").open(newline="") as source:
        rows = list(csv.DictReader(source))
    levels = {name: np.array([int(float(row[name])) for row in rows]) for name in ("low", "mid", "high")}
    group = np.array([int(float(row["fitzpatrick"]) not in (1, 2, 3)) for row in rows])
    return levels, group


def small(count=600, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(classes, size=count), rng.integers(2, size=count)


detect = partial(detectable_difference, num_classes=4, simulations=100)


def test_a_paired_t_test_needs_34_pairs_for_half_a_standard_deviation():
    """Cohen's and G*Power's number for 80 % power at 5 %, two-sided."""
    alone = partial(smallest_difference, 0.0, 0.0, seed_sd=1.0, degrees=100, level=0.05, power=0.8)
    assert alone(seeds=34) < 0.5 < alone(seeds=33)


@pytest.mark.parametrize(("seeds", "own"), [(3, 0.04), (5, 0.0), (10, 0.5)])
def test_without_common_noise_the_power_is_that_of_noncentral_t(seeds, own):
    found = smallest_difference(0.0, own, seed_sd=0.1, seeds=seeds, degrees=50, level=0.01, power=0.9)
    shift, critical = found / math.sqrt((0.01 + own) / seeds), stats.t.ppf(0.995, seeds - 1)
    assert stats.nct.sf(critical, seeds - 1, shift) == pytest.approx(0.9, abs=0.001)


def test_the_difference_named_is_found_as_often_as_named():
    """Means of 4 seeds in 100,000 comparisons: noise common to the seeds beside their own."""
    found = smallest_difference(0.02, 0.01, seed_sd=0.2, seeds=4, degrees=1e6, level=0.05, power=0.8)
    rng = np.random.default_rng(4)
    own, common = rng.standard_normal((100_000, 4)), rng.standard_normal((100_000, 1))
    by_seed = found + math.sqrt(0.05) * own + math.sqrt(0.02) * common
    half = np.sqrt(by_seed.var(axis=1, ddof=1) / 4 * stats.t.ppf(0.975, 3) ** 2 + 0.02 * stats.norm.ppf(0.975) ** 2)
    assert (by_seed.mean(1) > half).mean() == pytest.approx(0.8, abs=0.005)


def test_one_seed_has_the_noise_of_images_alone():
    one = partial(smallest_difference, 0.01, 0.03, seeds=1, degrees=1e5, level=0.05, power=0.8)
    assert one(seed_sd=0.5) == one(seed_sd=0.0) == pytest.approx(0.2 * (1.959964 + 0.841621), rel=1e-3)
    assert smallest_difference(0, 0, seed_sd=0, seeds=3, degrees=9, level=0.05, power=0.8) == 0


def test_planted_pairs_are_as_good_and_as_alike_as_asked():
    """The share of right answers of the arms differs with variance 2 a (1 - a) times what is not copied, over N."""
    label, _ = small(2000)
    both = planted_pairs(
        label, np.arange(2000), accuracy=0.7, agreement=0.8, shared=0.5, tables=400, rng=np.random.default_rng(1)
    )
    assert both.shape == (2, 2, 400, 2000)
    right = both == label
    assert right.mean(axis=(2, 3)) == pytest.approx(np.full((2, 2), 0.7), abs=0.003)
    assert (both[:, 0] == both[:, 1]).mean() == pytest.approx(0.8, abs=0.002)
    common, own = image_variance(*(right[:, 0].mean(-1) - right[:, 1].mean(-1)))
    apart = 0.7**2 + 0.3**2 / 3  # four classes of equal size: three ways to be wrong
    assert common + own == pytest.approx((1 - (0.8 - apart) / (1 - apart)) * 2 * 0.7 * 0.3 / 2000, rel=0.15)
    assert common / (common + own) == pytest.approx(0.5, abs=0.1)


def test_an_arm_that_is_driven_apart_between_the_groups():
    """It answers like the other one to the share c of images that it takes from it, and 0.1 better or worse else."""
    label, group = small(2000)
    both = planted_pairs(
        label, np.arange(2000), accuracy=0.7, agreement=0.8, shared=0.5, tables=200, rng=np.random.default_rng(1),
        group=group, uneven=0.1,
    )  # fmt: skip
    right = both == label
    c = (0.8 - (0.7**2 + 0.3**2 / 3)) / (1 - (0.7**2 + 0.3**2 / 3))
    for code, sign in ((0, 1), (1, -1)):
        first, second = right[..., group == code].mean(axis=(0, 2, 3))
        assert first == pytest.approx(0.7 + sign * 0.1 * (1 - c), abs=0.004)
        assert second == pytest.approx(0.7, abs=0.004)


def test_the_variance_of_a_gap_is_taken_where_the_difference_is():
    """Fair arms' gaps are absolute values of noise, whose variance is 1 - 2 / pi of that of the noise itself."""
    label, group = small(2000)
    found = detect(label, group, seeds=5, seed_sd=0.0, simulations=400)
    points = found.scenarios[0].variances["eodd"]
    assert [each[0] for each in points] == sorted(each[0] for each in points)
    assert points[-1][0] > found.middle["eodd"] > points[0][0]
    fair, apart = (sum(each[1:]) for each in (points[0], points[-1]))
    # of two classes each a fold; four classes add up their folds, and only the first arm's gap has opened
    assert apart > 1.3 * fair
    as_if_fair = smallest_difference(
        *points[0][1:], seed_sd=0.0, seeds=5, degrees=found.degrees, level=0.05 / 2, power=0.8
    )
    assert found.middle["eodd"] > as_if_fair


def test_images_of_a_unit_are_answered_alike():
    label = np.repeat([0, 1, 2], 40)
    both = planted_pairs(
        label, np.arange(120) // 4, accuracy=0.5, agreement=0.5, shared=0.0, tables=20, rng=np.random.default_rng(2)
    )
    assert (np.ptp(both.reshape(2, 2, 20, 30, 4), axis=-1) == 0).all()


def test_seeds_that_share_all_have_nothing_of_their_own():
    label, _ = small()
    both = planted_pairs(
        label, np.arange(600), accuracy=0.6, agreement=0.7, shared=1.0, tables=5, rng=np.random.default_rng(3)
    )
    assert (both[0] == both[1]).all()


def test_the_noise_floors_of_the_published_test_table(fitzpatrick):
    """Eodd of fair classifiers, as simulated without our code: 0.160 where 54 % of 114 classes are right, 0.058 and
    0.024 where 70 % of 9 and of 3 are."""
    levels, group = fitzpatrick
    for level, classes, accuracy, floor in (("low", 114, 0.54, 0.160), ("mid", 9, 0.7, 0.058), ("high", 3, 0.7, 0.024)):
        found = detectable_difference(
            levels[level], group, num_classes=classes, seeds=5, accuracy=accuracy, simulations=100
        )
        assert found.middle_floor == pytest.approx(floor, abs=0.002)
        assert found.floor[0] <= found.middle_floor <= found.floor[1]


def test_more_trainings_and_fewer_arms_detect_less():
    label, group = small()
    five = detect(label, group, seeds=5)
    for name in ("f1", "eodd", "fate"):
        low, high = getattr(five, name)
        assert 0 < low <= five.middle[name] <= high
        assert with_seeds(five, 20).middle[name] < five.middle[name] < with_seeds(five, 3).middle[name]
        assert with_arms(five, 10).middle[name] > five.middle[name]
    assert with_seeds(five, 5) == five == detect(label, group, seeds=5)
    assert with_arms(five, 3).comparisons == 6
    assert detect(label, group, seeds=5, seed_sd=0.1).eodd[0] > five.eodd[1]


def test_arms_that_agree_more_are_told_apart_more_easily():
    label, group = small()
    found = detect(label, group, seeds=5, seed_sd=0.0, agreement=0.9)
    assert found.middle["f1"] < detect(label, group, seeds=5, seed_sd=0.0, agreement=0.6).middle["f1"]


def test_images_that_belong_together_count_as_fewer():
    label, group = small(200)
    label, group = label.repeat(3), group.repeat(3)
    apart = detect(label, group, seeds=5, seed_sd=0.0)
    whole = detect(label, group, seeds=5, seed_sd=0.0, unit=np.repeat(np.arange(200), 3))
    assert whole.middle["f1"] / apart.middle["f1"] == pytest.approx(math.sqrt(3), rel=0.2)


def test_advice_names_what_would_do(fitzpatrick):
    levels, group = fitzpatrick
    found = detectable_difference(levels["low"], group, num_classes=114, seeds=3, arms=4, simulations=100)
    mid_of = np.zeros(114, dtype=int)
    mid_of[levels["low"]] = levels["mid"]
    said = advice(found, levels["low"], group, wanted=0.01, coarser={"nine partitions": mid_of}, simulations=100)
    assert said[0].startswith("This design cannot detect a difference of 0.010 in Eodd: the smallest")
    assert "3 seeds and 4 arms" in said[0]
    assert said[1].startswith("More seeds")
    assert said[2].startswith("Fewer arms: one arm against the baseline instead of 4 detects")
    assert said[3].startswith("Coarser labels: with nine partitions (9 classes) the same seeds detect")
    assert said[3].endswith("above a noise floor of 0.058.") or said[3].endswith("above a noise floor of 0.057.")
    assert advice(found, levels["low"], group, wanted=0.5) == []


def test_one_seed_is_advised_against():
    label, group = small()
    found = detect(label, group, seeds=1)
    said = advice(found, label, group, wanted=1.0)
    assert said == [
        "One seed: the noise between trainings cannot be estimated, and any difference holds for this one training "
        "only. Plan 3 seeds or more."
    ]


def test_what_no_gap_can_reach_is_called_so():
    """Two seeds leave one degree of freedom: at 5 % over 40 comparisons its quantile is 509."""
    label, group = small()
    (said, *_) = advice(detect(label, group, seeds=2, arms=20), label, group)
    assert said.endswith("No gap is above 1: nothing can be found at all.")


def test_a_mapping_must_name_every_class():
    label, group = small()
    with pytest.raises(ScpError, match=r"a class code for each class 0\.\.3"):
        advice(detect(label, group, seeds=2), label, group, wanted=0.0, coarser={"two": [0, 1]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds must be 1 or more, got 0"),
        ({"arms": 0}, "arms must be 1 or more"),
        ({"accuracy": 1.0}, "accuracy must lie between 0 and 1, got 1.0"),
        ({"seed_sd": -0.1}, "seed_sd must be 0 or more"),
        ({"power": 0.04}, "power must be above level"),
        ({"simulations": 2}, "simulations must be 10 or more"),
        ({"group": [0] * 600}, "hold both groups"),
        ({"label": [0] * 600}, "two classes or more"),
    ],
)
def test_a_wrong_design_is_told(change, message):
    label, group = small()
    with pytest.raises(ScpError, match=message):
        detect(**({"label": label, "group": group, "seeds": 3} | change))
