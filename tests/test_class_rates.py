"""Recall by class and group against the answers of three_arms.py."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import three_arms
from figured_sweep import by_label, texts
from planted_sweep import CLASSES, Images
from scipy.stats import binomtest

from scp_ray.ledger import Sweep, load_sweep
from scp_ray.ledger.evidence import fill_evidence
from scp_ray.report.figures.class_rates import class_rates


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Three arms with predictions."""
    sweep = load_sweep(three_arms.make(tmp_path_factory.mktemp("answered") / "sweep"))
    fill_evidence(sweep)
    return sweep


def test_recalls_are_counted_over_seeds_and_images(answered):
    drawn = class_rates(answered, "pr_c=0.2, layer=-1")
    images = Images()
    said = [images.answers(three_arms.ACCURACY["pr_c=0.2, layer=-1"], 200 + seed) for seed in three_arms.SEEDS]
    begun = [images.answers(three_arms.BASE, seed) for seed in three_arms.SEEDS]
    table = drawn.data.set_index(["side", "class", "group"])
    for side, answers in (("before pruning", begun), ("after", said)):
        for code, group in itertools.product(range(CLASSES), (0, 1)):
            cell = (images.label == code) & (images.group == group)
            row = table.loc[(side, code, group)]
            hits = [int((answer[cell] == code).sum()) for answer in answers]
            assert row["support"] == cell.sum()
            assert row["tpr"] == pytest.approx(np.mean(hits) / cell.sum())
            if len(set(hits)) == 1:
                known = binomtest(hits[0], int(cell.sum())).proportion_ci(method="wilson")
                assert (row["low"], row["high"]) == pytest.approx((known.low, known.high))
    before, after = drawn.figure.axes
    assert [tick.get_text() for tick in before.get_yticklabels()].count("class 0") == 1
    assert set(by_label(after)) == {"tone 0", "tone 1"}
    assert {f"{((images.label == 0) & (images.group == 0)).sum()}"} <= texts(before)


def test_the_best_arm_is_shown_and_said_to_be_chosen(answered):
    drawn = class_rates(answered)
    assert "The arm pr_c=0.2, layer=-1, the best of 3 arms by mean FATE" in drawn.caption


def test_an_arm_without_a_round_answers_as_its_base_models_do(tmp_path):
    """A method alone: its trials leave no predictions of their own."""
    root = three_arms.make(tmp_path / "sweep")
    arm, definition = "pr_c=0.1, layer=-1", json.loads((root / "sweep.json").read_text())
    (entry,) = (entry for entry in definition["arms"] if entry["label"] == arm)
    entry["config"] |= {"rounds": 0, "select": "round:0"}
    for trial in entry["trials"]:
        path = root / "rounds" / f"{trial['trial_id']}.parquet"
        pq.write_table(pq.read_table(path).slice(0, 1), path)
        (root / "predictions" / f"{trial['trial_id']}.parquet").unlink()
    (root / "sweep.json").write_text(json.dumps(definition))
    drawn = class_rates(load_sweep(root), arm)
    before, after = (
        drawn.data[drawn.data["side"] == side].drop(columns="side") for side in ("before pruning", "after")
    )
    assert before["tpr"].to_numpy() == pytest.approx(after["tpr"].to_numpy())
    assert before["support"].sum() == 240


def test_only_the_largest_classes_are_drawn(answered, monkeypatch):
    monkeypatch.setattr("scp_ray.report.figures.class_rates.MOST_CLASSES", 2)
    drawn = class_rates(answered)
    assert len(drawn.figure.axes[0].get_yticks()) == 2
    assert "The 2 largest of 3 classes are drawn" in drawn.caption
    assert drawn.data["class"].nunique() == 3
