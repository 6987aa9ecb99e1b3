"""The seeds' noise in a comparison with the models before pruning: from ledgers whose Eodd is planted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asking import MINIATURE, ask
from scipy import stats

from scp_ray.config import SweepConfig, read_space
from scp_ray.config.identity import data_identity
from scp_ray.ledger import load_sweep
from scp_ray.maths.power import smallest_difference
from scp_ray.tune.rates import history_of
from scp_ray.tune.seed_noise import differences, seed_sd

Trials = Mapping[str, Sequence[float]]  # by trial id, which ends in its seed: Eodd of round 0 and of those after it
COLUMNS = ["arm", "trial_id", "vanilla_id", "difference"]


def plant(root: Path, arms: Mapping[str, Trials], *, data: Mapping[str, object] | None = None, rounds: int = 1) -> Path:
    """A sweep's folder; every arm asks for so many rounds and is read at the last of them."""
    (root / "rounds").mkdir(parents=True)
    stop = {"th_acc": 9.0, "th_fair": -9.0, "gap": "eodd", "enforce": False}
    config = {"rounds": rounds, "select": "last", "stop": stop, "method": {"name": "vanilla"}}
    config["fine_tune"] = {"epochs": 0, "batch_size": 8, "augment": "none"}
    entries = []
    for label, trials in arms.items():
        made = [{"seed": int(each[-1]), "trial_id": each} for each in trials]
        made = [each | {"base_id": f"b{each['seed']}", "vanilla_id": f"b{each['seed']}"} for each in made]
        known = dict(data or {"table": "t", "image_size": 8})
        entries.append({"label": label, "settings": {}, "config": config, "trials": made, "data": known})
        for trial_id, eodd in trials.items():
            pq.write_table(rows(trial_id, eodd), root / "rounds" / f"{trial_id}.parquet")
    (root / "sweep.json").write_text(json.dumps({"format": 1, "name": root.name, "arms": entries, "data": {}}))
    return root


def rows(trial_id: str, eodd: Sequence[float]) -> pa.Table:
    seconds = {f"seconds_{name}": 1.0 for name in ("fit", "score", "evaluate", "test")}
    named = {"method": "vanilla", "criterion": "snnl", "backbone": "tiny", "device": "cpu", "threads": 1}
    gaps = {f"val_{gap}": 0.1 for gap in ("eopp0", "eopp1", "eodd_sum_abs", "eopp1_shared")}
    told = {"val_f1": 0.8, "val_fate_eodd_base": 0.0, "stopped": False, "stop_reason": ""} | gaps
    return pa.Table.from_pylist(
        [
            {"trial_id": trial_id, "round": at, "from_base": at == 0, "val_eodd": value} | named | seconds | told
            for at, value in enumerate(eodd)
        ]
    )


def frame(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS)


def arm(name: str, by_base: Mapping[str, float]) -> pd.DataFrame:
    return frame(*((name, f"{name}/{base}", base, value) for base, value in by_base.items()))


# -- by hand ----------------------------------------------------------------------------------------------------------

# Eodd moves from round 0 to round 1 by -0.01, -0.03, -0.05 in one arm: around -0.03 by 0.02, 0, -0.02, variance 0.0004;
# by 0.02, -0.04, -0.10 in the other: around -0.04 by 0.06, 0, -0.06, variance 0.0036. Their mean is 0.002.
TWO = {
    "a": {"a0": [0.20, 0.19], "a1": [0.30, 0.27], "a2": [0.10, 0.05]},
    "b": {"b0": [0.20, 0.22], "b1": [0.30, 0.26], "b2": [0.10, 0.00]},
}


def test_the_mean_of_the_arms_variances(tmp_path):
    """Three base models leave two degrees of freedom, however many arms begin there."""
    found = seed_sd([differences(load_sweep(plant(tmp_path / "s", TWO)))])
    assert found == (pytest.approx(0.002**0.5), 2)


def test_noise_that_the_arms_of_a_seed_share_is_in_it(tmp_path):
    """Arms that are apart by 0.1 in every seed: between them nothing varies, and each moves from its base by steps of
    variance 0.0004."""
    alike = {
        "a": {"a0": [0.20, 0.19], "a1": [0.30, 0.27], "a2": [0.10, 0.05]},
        "b": {"b0": [0.20, 0.29], "b1": [0.30, 0.37], "b2": [0.10, 0.15]},
    }
    assert seed_sd([differences(load_sweep(plant(tmp_path / "s", alike)))]) == (pytest.approx(0.02), 2)


def test_labels_of_one_trial_count_once(tmp_path):
    """A second label of the same trials changes nothing; nor does a sweep beside it that has them too."""
    shared = {"a": TWO["a"], "again": TWO["a"]}
    assert seed_sd([differences(load_sweep(plant(tmp_path / "s", shared)))]) == (pytest.approx(0.02), 2)
    # were it counted twice: (2 x 0.0004 + 0.0036) / 3
    three = differences(load_sweep(plant(tmp_path / "t", shared | {"b": TWO["b"]})))
    assert seed_sd([three]) == (pytest.approx(0.002**0.5), 2)
    assert seed_sd([three, three]) == (pytest.approx(0.002**0.5), 2)


def test_of_arms_that_share_trials_the_one_with_most_seeds_counts():
    """As a race leaves them. 0.1, 0.2 and 0.6 lie around 0.3: 0.04 + 0.01 + 0.09 over 2."""
    few = frame(("few", "t0", "b0", 0.1), ("few", "t1", "b1", 0.2))
    all_of_them = frame(("all", "t0", "b0", 0.1), ("all", "t1", "b1", 0.2), ("all", "t2", "b2", 0.6))
    for told in ([few, all_of_them], [pd.concat([few, all_of_them])]):
        assert seed_sd(told) == (pytest.approx(0.07**0.5), 2)


def test_arms_of_unequal_seeds_count_by_their_degrees():
    """Twice 0.02 squared, with two degrees, and twice 0.03 squared, with one."""
    told = [arm("a", {"b0": -0.02, "b1": 0.0, "b2": 0.02}), arm("b", {"b0": 0.0, "b1": 0.06})]
    assert seed_sd(told) == (pytest.approx(((0.0008 + 0.0018) / 3) ** 0.5), 2)


def test_arms_of_one_label_in_two_sweeps_are_two():
    """Around 0 and around 1, each with variance 0.0004."""
    near = {"b0": -0.02, "b1": 0.0, "b2": 0.02}
    other = arm("a", {base: 1 + moved for base, moved in near.items()})
    other["trial_id"] = "longer " + other["trial_id"]
    assert seed_sd([arm("a", near), other]) == (pytest.approx(0.02), 2)


def test_arms_that_never_left_their_base_say_nothing():
    told = arm("a", {"b0": -0.02, "b1": 0.0, "b2": 0.02})
    base = arm("none better", {"b0": 0.0, "b1": 0.0, "b2": 0.0})
    assert seed_sd([pd.concat([told, base])]) == (pytest.approx(0.02), 2)
    assert seed_sd([base]) is None
    # the trials of an arm that asks for no rounds may be another's, which goes on
    same = base.assign(trial_id=told["trial_id"])
    assert seed_sd([pd.concat([same, told])]) == (pytest.approx(0.02), 2)


def test_a_round_0_that_was_selected_is_a_difference_of_0():
    assert seed_sd([arm("a", {"b0": -0.03, "b1": 0.03, "b2": 0.0})]) == (pytest.approx(0.03), 2)


def test_trials_that_go_on_are_left_out(tmp_path):
    """Two rounds are asked for and one of three trials has done one: the two others leave one degree of freedom."""
    arms = {"a": {"a0": [0.2, 0.3, 0.1], "a1": [0.2, 0.3, 0.2], "a2": [0.2, 0.9]}}
    told = differences(load_sweep(plant(tmp_path / "s", arms, rounds=2)))
    assert told["difference"].tolist() == pytest.approx([-0.1, 0.0])
    assert seed_sd([told]) is None


def test_an_undefined_gap_is_no_difference():
    assert seed_sd([arm("a", {"b0": -0.02, "b1": 0.0, "b2": 0.02, "b3": math.nan})]) == (pytest.approx(0.02), 2)


def test_nothing_is_known_of_too_few_seeds():
    assert seed_sd([]) is None
    assert seed_sd([arm("a", {"b0": 0.1, "b1": 0.2}), arm("b", {"b0": 0.1, "b1": 0.3})]) is None
    assert seed_sd([frame()]) is None


def test_degrees_of_freedom_are_those_of_base_models():
    first = {f"b{seed}": float(seed) for seed in range(5)}
    other = {f"c{seed}": float(seed) for seed in range(3)}
    arms = {name: arm(name, first) for name in "abcd"}
    assert (seed_sd([*arms.values()]) or ())[1] == 4
    assert (seed_sd([*arms.values(), arm("e", other), arm("f", other)]) or ())[1] == 4 + 2
    # two arms that no base joins have two means of their own, until a third joins them
    halves = [arm("a", {"b0": 0.0, "b1": 1.0}), arm("b", {"b2": 0.0, "b3": 1.0, "b4": 2.0})]
    assert (seed_sd(halves) or ())[1] == 3
    assert (seed_sd([*halves, arm("c", {"b1": 0.0, "b2": 1.0})]) or ())[1] == 4


# -- planted ----------------------------------------------------------------------------------------------------------


def pruned_and_base(rng: np.random.Generator, seeds: int, arms: int = 3) -> np.ndarray:
    """(arms, seeds) differences: the base's noise of 0.06 is half kept by the arms, whose own is 0.02."""
    base = 0.06 * rng.standard_normal(seeds)
    return -0.05 + 0.5 * base + 0.02 * rng.standard_normal((arms, seeds)) - base


def as_frame(moved: np.ndarray) -> pd.DataFrame:
    return pd.concat([arm(f"{at}", {f"b{s}": float(x) for s, x in enumerate(each)}) for at, each in enumerate(moved)])


def test_a_planted_standard_deviation_is_found():
    """0.03 of the base and 0.02 of the arm: 0.0361; two pruned arms would differ by 0.0283."""
    found = seed_sd([as_frame(pruned_and_base(np.random.default_rng(1), 4000))])
    assert found == (pytest.approx(0.0013**0.5, rel=0.02), 3999)


def test_what_is_told_gives_the_power_that_is_named():
    """The smallest difference by what history tells is found in as many new comparisons of 4 seeds as named."""
    rng = np.random.default_rng(2)
    told, _ = seed_sd([as_frame(pruned_and_base(rng, 4000))]) or (0.0, 0)
    size = smallest_difference(0.0, 0.0, seed_sd=told, seeds=4, degrees=100, level=0.05, power=0.8)
    noise = pruned_and_base(rng, 400_000, arms=1).reshape(100_000, 4) + 0.05
    p = stats.ttest_1samp(noise + size, 0.0, axis=1, alternative="two-sided").pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.015)


def test_the_degrees_are_those_of_the_variance_that_is_told():
    """Of arms that only share their base's noise the variance's own variance is 2 / degrees, at any number of arms."""
    rng = np.random.default_rng(3)
    told = []
    for _ in range(200):
        base = {f"b{seed}": float(x) for seed, x in enumerate(rng.standard_normal(5))}
        told.append(seed_sd([arm(name, base) for name in "abc"]))
    variances = np.array([each[0] ** 2 for each in told if each is not None])
    assert {each[1] for each in told if each is not None} == {4}
    assert variances.mean() == pytest.approx(1.0, abs=0.15)
    assert variances.var() == pytest.approx(2 / 4, rel=0.35)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "miniature.yaml"
    path.write_text(MINIATURE)
    return path


def read(path: Path, *overrides: str) -> SweepConfig:
    return SweepConfig.from_dict(read_space(str(path), profile=None, overrides=list(overrides)))


def test_the_plan_takes_it_from_a_sweep_beside_it(space, tmp_path):
    """On the same data alone."""
    config = (
        SweepConfig.from_dict(read_space(str(space), profile=None, overrides=[])).resolved_arms()[0].trials[0].config
    )
    data = data_identity(config.dataset)
    plant(tmp_path / "results" / "earlier", TWO | {"again": TWO["a"]}, data=data)
    plant(
        tmp_path / "results" / "other", {"a": {f"x{s}": [0.5, 0.1 * s] for s in range(5)}}, data=data | {"table": "u"}
    )
    found = history_of(tmp_path / "results" / "planned").seed_sd(config)
    assert found == (pytest.approx(0.002**0.5), 2)
    answer = ask("sweep", space, "--out", tmp_path / "results", "--dry-run", "--json", "--set", "seeds=[0, 1]")
    (told,) = answer.json["detectable"]
    assert told["seed_sd"] == pytest.approx(0.002**0.5)
    assert told["seed_sd_source"] == "from earlier sweeps, 2 degrees of freedom"
