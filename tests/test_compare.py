"""scp-ray compare: one arm against another on a planted ledger, against pandas, scikit-learn and scipy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import asking
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from asking import Answer
from planted_sweep import CLASSES, Images, eodd_by_hand
from scipy import stats
from sklearn.metrics import f1_score
from three_arms import ARMS, SEEDS, make

from scp_ray.errors import LedgerError
from scp_ray.ledger import load_sweep
from scp_ray.ledger.evidence import evidence_of, fill_evidence
from scp_ray.ledger.lease import Lease
from scp_ray.maths.paired import paired_differences
from scp_ray.report.compare import compare


def ask(*words: object) -> Answer:
    return asking.ask("compare", *words)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make(tmp_path_factory.mktemp("planted") / "made")
    fill_evidence(load_sweep(root))
    return root


def stored(root: Path, arm: int | None, split: str = "val", seeds: tuple[int, ...] = SEEDS) -> pd.DataFrame:
    """A column of predictions per seed, beside label, tone and unit; ``arm`` None: the bases."""
    frames = []
    for seed in seeds:
        path = root / (f"bases/base{seed}/predictions.parquet" if arm is None else f"predictions/t{arm}s{seed}.parquet")
        rows = pd.read_parquet(path)
        rows = rows[rows["split"] == split].set_index("id")
        frames.append(rows["prediction"].rename(seed))
    return pd.concat([rows[["label", "tone", "unit"]], *frames], axis=1)


def f1_by_hand(rows: pd.DataFrame, seed: int) -> float:
    return float(np.mean([f1_score(g["label"], g[seed], average="macro") for _, g in rows.groupby("tone")]))


def gap_by_hand(rows: pd.DataFrame, seed: int) -> float:
    return eodd_by_hand(rows["label"].to_numpy(), rows[seed].to_numpy(), rows["tone"].to_numpy())


def test_means_and_differences_are_those_of_the_stored_predictions(sweep: Path) -> None:
    answer = ask(sweep, "pr_c=0.2,layer=-1", "pr_c=0.1", "--json")
    assert answer.code == 0
    told = json.loads(answer.out)
    lines = {line["metric"]: line for line in told["lines"]}
    first, second, base = (stored(sweep, arm) for arm in (1, 0, None))
    f1_first, f1_second, f1_base = ([f1_by_hand(rows, s) for s in SEEDS] for rows in (first, second, base))
    gap_first, gap_second, gap_base = ([gap_by_hand(rows, s) for s in SEEDS] for rows in (first, second, base))
    assert lines["f1"]["first"] == pytest.approx(np.mean(f1_first), abs=1e-9)
    assert lines["f1"]["second"] == pytest.approx(np.mean(f1_second), abs=1e-9)
    assert lines["eodd"]["difference"] == pytest.approx(np.mean(gap_first) - np.mean(gap_second), abs=1e-9)
    fates = [
        np.mean([f / fb - g / gb for f, g, fb, gb in zip(f1s, gaps, f1_base, gap_base, strict=True)])
        for f1s, gaps in ((f1_first, gap_first), (f1_second, gap_second))
    ]
    assert lines["fate_eodd"]["difference"] == pytest.approx(fates[0] - fates[1], abs=1e-9)
    assert (told["n"], told["units"], told["seeds"]) == (240, first["unit"].nunique(), [0, 1, 2])
    # what seeds alone give by scipy's t is the least; their quantile for all of the variance, images included, the most
    for name, by_seed in (("f1", np.subtract(f1_first, f1_second)), ("eodd", np.subtract(gap_first, gap_second))):
        line = lines[name]
        alone, quantile = stats.sem(by_seed), stats.t.ppf(0.975, len(SEEDS) - 1)
        assert line["standard_error"] >= alone - 1e-12
        half = (line["high"] - line["low"]) / 2
        assert quantile * alone - 1e-9 <= half <= quantile * line["standard_error"] + 1e-9
        assert (line["low"] + line["high"]) / 2 == pytest.approx(line["difference"], abs=1e-9)
        assert (line["p"] < 0.05) is (line["low"] > 0 or line["high"] < 0)


def floors(root: Path, arm: int | None) -> list[float]:
    """Of each seed: groups permuted inside each class, whole lesions, 300 times."""
    rows, random, means = stored(root, arm), np.random.default_rng(0), []
    of_image = np.unique(rows["unit"], return_inverse=True)[1]
    first = np.unique(of_image, return_index=True)[1]
    label, tone, size = rows["label"].to_numpy(), rows["tone"].to_numpy(), np.bincount(of_image)
    strata = [np.flatnonzero((label[first] == c) & (size == n)) for c in range(CLASSES) for n in (1, 2)]
    for seed in SEEDS:
        null = []
        for _ in range(300):
            drawn = tone[first]
            for stratum in strata:
                drawn[stratum] = random.permutation(drawn[stratum])
            null.append(eodd_by_hand(label, rows[seed].to_numpy(), drawn[of_image]))
        means.append(float(np.mean(null)))
    return means


def test_the_excess_is_over_the_floor_of_whole_lesions(sweep: Path) -> None:
    lines = {line.metric: line for line in compare(load_sweep(sweep), "pr_c=0.2, layer=-2", "base").lines}
    by_hand = [
        np.mean([gap_by_hand(stored(sweep, arm), s) for s in SEEDS]) - np.mean(floors(sweep, arm)) for arm in (2, None)
    ]
    assert lines["excess_eodd"].first == pytest.approx(by_hand[0], abs=0.004)
    assert lines["excess_eodd"].second == pytest.approx(by_hand[1], abs=0.004)


def test_holm_counts_every_arm_against_the_baseline(sweep: Path) -> None:
    """Three arms, F1 and excess Eodd: six p-values. Each by a call of its own; the smallest times six, and so on."""
    found = load_sweep(sweep)
    names = [*ARMS]
    base, evidence = stored(sweep, None), {}
    for place in [f"t{arm}s{s}" for arm in range(3) for s in SEEDS]:
        for index in (0, 1):
            rows = evidence_of(found, place, index).set_index("metric")
            evidence[place, index] = float(rows.loc["eodd", "floor_mean"])
    p = {}
    for arm, name in enumerate(names):
        rows = stored(sweep, arm)
        differences = paired_differences(
            rows["label"],
            rows["tone"],
            rows[[*SEEDS]].to_numpy().T,
            base[[*SEEDS]].to_numpy().T,
            num_classes=CLASSES,
            unit=pd.factorize(rows["unit"])[0],
            floors={"eodd": tuple([evidence[f"t{arm}s{s}", index] for s in SEEDS] for index in (1, 0))},
        )
        for metric in ("f1", "excess_eodd"):
            p[name, metric] = differences[metric].p_value
    adjusted, largest = {}, 0.0
    for rank, key in enumerate(sorted(p, key=lambda key: p[key])):
        largest = max(largest, min(1.0, (6 - rank) * p[key]))
        adjusted[key] = largest
    for first, second, sign in ((names[1], "base", 1), ("base", names[1], -1)):
        comparison = compare(found, first, second)
        assert (comparison.compared, comparison.baseline) == (6, "base")
        for line in comparison.lines:
            key = names[1], line.metric
            if key in adjusted:
                assert line.p == pytest.approx(p[key], rel=1e-6)
                assert line.p_holm == pytest.approx(adjusted[key], rel=1e-6)
                gain = line.difference if line.metric == "f1" else -line.difference
                assert gain * sign > 0, "the repaired arm was planted better in both"
                words = (
                    ("better" if sign == 1 else "worse") if adjusted[key] < 0.05 else "not distinguishable at this n"
                )
                assert line.verdict == words
            else:
                assert math.isnan(line.p_holm) and line.verdict == ""
    against = compare(found, names[0], names[2])
    assert (against.compared, against.baseline) == (4, names[2])


def test_what_was_planted_is_found(sweep: Path) -> None:
    answer = ask(sweep, "pr_c=0.2,layer=-1", "base")
    assert answer.code == 0
    lines = {" ".join(line.split()[:2]): line for line in answer.out.splitlines() if line}
    assert lines["Eodd excess"].endswith(" better")
    answer = ask(sweep, "layer=-2", "base")
    lines = {" ".join(line.split()[:2]): line for line in answer.out.splitlines() if line}
    assert lines["Eodd excess"].endswith(" worse")
    said = " ".join(answer.out.split())
    assert "validation split, n = 240 images" in said and "seeds 0, 1, 2" in said and "round:1" in said
    assert "over 6 p-values" in said and "(round 0)" in said


def test_one_seed_speaks_of_one_training(tmp_path: Path) -> None:
    root = make(tmp_path / "one", seeds=(0,))
    lines = {line.metric: line for line in compare(load_sweep(root), "pr_c=0.1, layer=-1", "base").lines}
    for metric in ("f1", "excess_eodd"):
        assert lines[metric].verdict.endswith("for this one training")


def test_fate_has_an_interval_only_over_a_base_above_its_floor(sweep: Path, tmp_path: Path) -> None:
    unfair = compare(load_sweep(sweep), "pr_c=0.1, layer=-1", "base")
    fair = compare(load_sweep(make(tmp_path / "fair", base=(0.8, 0.8), seeds=(0, 1))), "pr_c=0.1, layer=-1", "base")
    (with_interval,), (without,) = ([x for x in found.lines if x.metric == "fate_eodd"] for found in (unfair, fair))
    assert with_interval.low < with_interval.difference < with_interval.high
    assert math.isnan(without.low) and math.isnan(without.p) and math.isfinite(without.difference)
    assert any("FATE has no interval" in note for note in fair.notes)
    assert not any("FATE" in note for note in unfair.notes)


def test_validation_is_read_and_nothing_written(sweep: Path) -> None:
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    assert ask(sweep, "pr_c=0.1", "base").code == 0
    assert {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()} == before


def test_test_numbers_are_counted_and_say_what_they_were_chosen_from(tmp_path: Path) -> None:
    images = Images()
    test = {(label, seed): images.answers((0.5, 0.5), seed) for label in ARMS for seed in (0, 1)}
    root = make(tmp_path / "made", seeds=(0, 1), test=test)
    first = json.loads(ask(root, "pr_c=0.1", "base", "--split", "test", "--json").out)
    assert first["test_reveals"] == json.loads((root / "sweep.json").read_text())["test_reveals"] == 1
    expected = np.mean([f1_by_hand(stored(root, 0, "test", (0, 1)), s) for s in (0, 1)])
    assert first["lines"][0]["first"] == pytest.approx(expected, abs=1e-9)
    told = " ".join(ask(root, "pr_c=0.1", "base", "--split", "test").out.split())
    assert "shown 2 times" in told and "among 3 configurations" in told and "test split" in told
    val = np.mean([f1_by_hand(stored(root, 0, "val", (0, 1)), s) for s in (0, 1)])
    assert f"A F1 {val - expected:+.4f}, Eodd " in told and "B F1 +0.0000, Eodd +0.0000." in told
    assert not (root / "driver.json").exists()
    with Lease(root / "driver.json"):
        held = ask(root, "pr_c=0.1", "base", "--split", "test")
        assert (held.code, held.out) == (4, "")
        assert ask(root, "pr_c=0.1", "base").code == 0
    assert json.loads((root / "sweep.json").read_text())["test_reveals"] == 2


def test_an_arm_is_not_compared_with_itself_or_without_a_finished_seed(sweep: Path, tmp_path: Path) -> None:
    assert "compared with itself" in ask(sweep, "pr_c=0.1", "pr_c=0.1").err
    root = make(tmp_path / "made")
    for seed in SEEDS:
        (root / "rounds" / f"t0s{seed}.parquet").unlink()
    answer = ask(root, "pr_c=0.1", "base")
    assert answer.code == 2
    assert "no seed that both have finished" in answer.err


def test_a_seed_that_one_arm_lacks_is_left_out_and_told(tmp_path: Path) -> None:
    root = make(tmp_path / "made")
    (root / "rounds" / "t0s1.parquet").unlink()
    for pair in (("pr_c=0.1", "layer=-2"), ("layer=-2", "pr_c=0.1")):
        told = ask(root, *pair).out
        assert "seeds 0, 2;" in told and "left out: 1." in told


def test_answers_about_other_images_are_not_compared(tmp_path: Path) -> None:
    root = make(tmp_path / "made")
    path = root / "predictions" / "t0s0.parquet"
    rows = pd.read_parquet(path)
    rows["id"] = "other" + rows["id"]
    rows.to_parquet(path)
    with pytest.raises(LedgerError, match="other images, labels or groups"):
        compare(load_sweep(root), "pr_c=0.1, layer=-1", "base")
    assert pq.read_table(path).num_rows == 480
