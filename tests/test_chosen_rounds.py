"""Rounds that were chosen on the images they are compared on: the planted truth is that pruning changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asking
import numpy as np
import pandas as pd
import pytest
from planted_sweep import CLASSES, Images, eodd_by_hand, write
from scipy import stats
from sklearn.metrics import f1_score

from scp_ray.errors import ConfigError
from scp_ray.ledger import load_sweep
from scp_ray.ledger.evidence import fill_evidence
from scp_ray.maths.crossfit import chosen_without, deal_folds
from scp_ray.maths.uncertainty import noise_floor
from scp_ray.report.compare import compare
from scp_ray.report.paper_tables import paper_table

SEEDS = tuple(range(10))
ROUNDS = 6
UNFAIR = (0.85, 0.6)  # right answers of both groups, before pruning and in every round
CHOSEN: dict[str, Any] = {"rounds": ROUNDS, "select": "best_val_fate", "pr_c": 0.1}


def numbers(rows: pd.DataFrame, column: str = "prediction") -> tuple[float, float]:
    """F1 and Eodd of a table, by scikit-learn and by hand."""
    f1 = np.mean([f1_score(part["label"], part[column], average="macro") for _, part in rows.groupby("tone")])
    gap = eodd_by_hand(rows["label"].to_numpy(), rows[column].to_numpy(), rows["tone"].to_numpy())
    return float(f1), gap


@pytest.fixture(scope="module")
def images() -> Images:
    return Images(600)


@pytest.fixture(scope="module")
def sweep(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every round answers anew with the base's accuracies; the second arm is the first at its last round."""
    answers = {
        ("chosen", seed): {r: images.answers(UNFAIR, 1000 * seed + r) for r in range(1, ROUNDS + 1)} for seed in SEEDS
    }
    bases = {seed: images.answers(UNFAIR, 77_000 + seed) for seed in SEEDS}
    root = write(tmp_path_factory.mktemp("chosen") / "made", images, {"chosen": CHOSEN}, answers, bases)
    _add_arm(root, "last", select=f"round:{ROUNDS}")
    fill_evidence(load_sweep(root))
    return root


def _add_arm(root: Path, label: str, **config: Any) -> None:
    """Another arm of the same trials."""
    definition = json.loads((root / "sweep.json").read_text())
    first = definition["arms"][0]
    definition["arms"].append(first | {"label": label, "config": first["config"] | config})
    (root / "sweep.json").write_text(json.dumps(definition))


def test_folds_are_of_whole_lesions_and_alike(images: Images) -> None:
    fold = deal_folds(images.label, images.group, images.unit)
    frame = pd.DataFrame({"fold": fold, "unit": images.unit, "cell": images.label * 2 + images.group})
    assert (frame.groupby("unit")["fold"].nunique() == 1).all()
    once = frame.drop_duplicates("unit")
    spread = once.groupby(["cell", "fold"]).size().unstack(fill_value=0)
    assert spread.shape == (6, 10)
    assert (spread.max(axis=1) - spread.min(axis=1)).max() == 1
    assert once.groupby("fold").size().agg(["min", "max"]).diff().iloc[-1] <= 1
    names = np.array([f"lesion {-each}" for each in images.unit])
    assert (deal_folds(images.label, images.group, names) == fold).all(), "names do not matter"
    few = deal_folds(images.label[:4], images.group[:4], np.arange(4))
    assert sorted(few) == [0, 1, 2, 3]


def test_a_fold_has_no_say_in_what_answers_it(images: Images) -> None:
    """Metrics are those of the other images alone; where a fold is empty, those of all."""
    said = np.stack([images.answers(UNFAIR, seed) for seed in range(3)])
    fold = np.where(np.arange(600) < 100, 0, 2)
    seen: list[dict[str, Any]] = []
    chosen_without(images.label, images.group, said, fold, lambda m: seen.append(m) or 0, num_classes=CLASSES)
    for metrics, left in zip(seen, (fold == 2, fold >= 0, fold == 0), strict=True):
        rows = pd.DataFrame({"label": images.label, "tone": images.group} | {str(r): said[r] for r in range(3)})[left]
        by_hand = [numbers(rows, str(r)) for r in range(3)]
        assert metrics["f1"] == pytest.approx([f1 for f1, _ in by_hand], abs=1e-12)
        assert metrics["eodd"] == pytest.approx([gap for _, gap in by_hand], abs=1e-12)


def crossfitted(root: Path, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Base and answers of one seed put together by hand: in each fold the round that is best on the others."""
    base = pd.read_parquet(root / f"bases/base{seed}/predictions.parquet").query("split == 'val'")
    rounds = pd.read_parquet(root / f"predictions/t0s{seed}.parquet").query("split == 'val'")
    said = {0: base.reset_index(drop=True)} | {r: part.reset_index(drop=True) for r, part in rounds.groupby("round")}
    fold = deal_folds(base["label"], base["tone"], base["unit"])
    answers, taken = said[0].copy(), set()
    for each in range(10):
        f1_base, gap_base = numbers(said[0][fold != each])
        fates = [f1 / f1_base - gap / gap_base for f1, gap in (numbers(said[r][fold != each]) for r in sorted(said))]
        taken.add(best := int(np.argmax(fates)))
        answers.loc[fold == each, "prediction"] = said[best].loc[fold == each, "prediction"]
    return said[0], answers, len(taken)


def test_each_image_is_answered_by_the_round_that_was_chosen_without_it(sweep: Path) -> None:
    found = compare(load_sweep(sweep), "chosen", "base")
    lines = {line.metric: line for line in found.lines}
    by_seed = [crossfitted(sweep, seed) for seed in SEEDS]
    assert max(count for *_, count in by_seed) > 1, "else nothing is put together"
    f1, gap = (np.mean(each) for each in zip(*(numbers(answers) for _, answers, _ in by_seed), strict=True))
    assert (lines["f1"].first, lines["eodd"].first) == pytest.approx((f1, gap), abs=1e-9)
    floors = [
        noise_floor(a["label"], a["prediction"], a["tone"], num_classes=CLASSES, unit=pd.factorize(a["unit"])[0]).mean
        for _, a, _ in by_seed
    ]
    assert lines["excess_eodd"].first == pytest.approx(gap - np.mean(floors), abs=0.001)
    assert found.folds == 10
    selected = [pd.read_parquet(sweep / f"rounds/t0s{s}.parquet").set_index("round") for s in SEEDS]
    known = np.mean([rows.loc[found.rounds["chosen"][s], ["val_f1", "val_eodd"]] for s, rows in enumerate(selected)], 0)
    told = f"A F1 {known[0] - f1:+.4f}, Eodd {gap - known[1]:+.4f}; B F1 +0.0000, Eodd +0.0000."
    assert any("10 folds" in note and told in note for note in found.notes)


def test_choosing_makes_nothing_better(sweep: Path) -> None:
    """At their selected rounds the ten seeds would have it that pruning narrows the gap, and it was planted not to."""
    found = compare(load_sweep(sweep), "chosen", "base")
    rows = pd.concat([pd.read_parquet(sweep / f"rounds/t0s{seed}.parquet").assign(seed=seed) for seed in SEEDS])
    gaps = rows.pivot(index="seed", columns="round", values="val_eodd")
    chosen = np.array([gaps.loc[seed, found.rounds["chosen"][seed]] for seed in SEEDS]) - gaps[0]
    assert chosen.mean() < 0
    assert stats.ttest_1samp(chosen, 0).pvalue < 0.025, "which Holm would let pass beside F1"
    (excess,) = (line for line in found.lines if line.metric == "excess_eodd")
    assert excess.verdict == "not distinguishable at this n"
    assert excess.low < 0 < excess.high
    said = " ".join(asking.ask("compare", sweep, "chosen", "base").out.split())
    assert "Each image is answered by the round that is selected without it (10 folds)." in said


def test_a_round_that_nobody_chose_speaks_for_itself(sweep: Path) -> None:
    found = compare(load_sweep(sweep), "last", "base")
    last = np.mean([pd.read_parquet(sweep / f"rounds/t0s{s}.parquet")["val_f1"].iloc[ROUNDS] for s in SEEDS])
    assert found.lines[0].first == pytest.approx(last, abs=1e-12)
    assert found.folds == 0
    assert not any("Optimism" in note for note in found.notes)


def test_a_table_marks_nothing_that_choosing_made(sweep: Path) -> None:
    table = paper_table(load_sweep(sweep))
    row = table.frame.set_index(["method", "line"]).loc[("chosen", "Avg")]
    lines = {line.metric: line for line in compare(load_sweep(sweep), "chosen", "base").lines}
    assert row["eodd_p_holm"] == pytest.approx(lines["excess_eodd"].p_holm, abs=1e-9)
    assert row["eodd_verdict"] == "not distinguishable at this n"
    assert np.isnan(row["fate_eodd_low"])
    assert any("selected on these images" in note for note in table.notes)


def test_the_same_trials_are_counted_once(sweep: Path, tmp_path: Path, images: Images) -> None:
    """Two labels of one trial, and one of another: 4 p-values against the base, 2 against the twins."""
    answers = {
        (label, seed): images.answers((0.8, 0.7), 10 * place + seed)
        for place, label in enumerate(("one", "other"))
        for seed in (0, 1)
    }
    bases = {seed: images.answers(UNFAIR, seed) for seed in (0, 1)}
    root = write(tmp_path / "made", images, {"one": {}, "other": {}}, answers, bases)
    _add_arm(root, "twin")
    found = load_sweep(root)
    assert compare(found, "one", "base").compared == 4
    assert compare(found, "other", "one").compared == compare(found, "other", "twin").compared == 2
    with pytest.raises(ConfigError, match="are the same trials"):
        compare(found, "one", "twin")
