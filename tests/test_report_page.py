from __future__ import annotations

import json
import os
import re
import socket
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from planted_sweep import Images, eodd_by_hand, write
from reading_pages import Page
from sklearn.metrics import f1_score
from three_arms import ACCURACY, ARMS, BASE, SEEDS, make

from scp_ray.ledger import load_sweep
from scp_ray.ledger.evidence import fill_evidence
from scp_ray.report.page import reality
from scp_ray.report.page.cost import cost_of
from scp_ray.report.page.page import page_html, write_page
from scp_ray.report.page.parts import PageTable, Picture, TestSection
from scp_ray.report.page.reproduce import space_yaml

REPAIRED = "pr_c=0.2, layer=-1"
HOSTILE = "</script><script>alert(1)</script><b>é 日本 & \"'"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms, three seeds, with evidence."""
    root = make(tmp_path_factory.mktemp("page") / "planted")
    fill_evidence(load_sweep(root))
    return root


@pytest.fixture(scope="module")
def page(planted: Path) -> Page:
    return Page(page_html(load_sweep(planted)))


def f1_by_sklearn(images: Images, prediction: np.ndarray) -> float:
    """Mean over the two groups of the macro F1 over the labels that occur in the group."""
    found = []
    for group in (0, 1):
        own = images.group == group
        kinds = np.unique(images.label[own])
        found.append(f1_score(images.label[own], prediction[own], labels=kinds, average="macro", zero_division=0))
    return float(np.mean(found))


def numbers_by_hand(arm: str) -> dict[str, list[float]]:
    """F1, Eodd and FATE of an arm's round 1 by seed, from the planted answers."""
    images, position = Images(), list(ARMS).index(arm) + 1
    found: dict[str, list[float]] = {"f1": [], "eodd": [], "fate": []}
    for seed in SEEDS:
        said, base = images.answers(ACCURACY[arm], 100 * position + seed), images.answers(BASE, seed)
        f1, start = f1_by_sklearn(images, said), f1_by_sklearn(images, base)
        eodd, before = (eodd_by_hand(images.label, each, images.group) for each in (said, base))
        for name, value in (("f1", f1), ("eodd", eodd), ("fate", f1 / start - eodd / before)):
            found[name].append(value)
    return found


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_curves_are_means_over_seeds(page: Page, arm: str):
    curves, at = page.data["curves"], page.data["arms"]["label"].index(arm)
    place = next(i for i, found in enumerate(curves["arm"]) if found == at and curves["round"][i] == 1)
    for name, column in (("f1", "f1"), ("eodd", "eodd"), ("fate", "fate_eodd_base")):
        values = numbers_by_hand(arm)[name]
        assert curves[column][place] == pytest.approx(statistics.mean(values), rel=1e-5)
        assert curves[f"{column}_std"][place] == pytest.approx(statistics.stdev(values), rel=1e-5)


def test_the_rounds_of_a_trial_are_its_own_with_the_evidence_that_is_stored(page: Page, planted: Path):
    rounds, trial = page.data["rounds"], page.data["ids"].index("t1s2")
    place = next(i for i, found in enumerate(rounds["trial"]) if found == trial and rounds["round"][i] == 1)
    assert rounds["eodd"][place] == pytest.approx(numbers_by_hand(REPAIRED)["eodd"][2], rel=1e-5)
    stored = pq.read_table(planted / "evidence" / "t1s2.parquet").to_pandas()
    row = stored[(stored["metric"] == "eodd") & (stored["round"] == 1)].iloc[0]
    for name in ("floor_mean", "floor_low", "floor_high", "p", "low", "high"):
        assert rounds[f"eodd_{name}"][place] == pytest.approx(row[name], rel=1e-5)


def test_the_noise_floor_of_fate_is_what_a_fair_model_would_have(page: Page, planted: Path):
    """F1_m / F1_b - floor_m / gap_b, mean over seeds; the upper end of the gap's band is the lower of FATE's."""
    curves, at = page.data["curves"], page.data["arms"]["label"].index(REPAIRED)
    place = next(i for i, found in enumerate(curves["arm"]) if found == at and curves["round"][i] == 1)
    images, low = Images(), []
    for seed in SEEDS:
        stored = pq.read_table(planted / "evidence" / f"t1s{seed}.parquet").to_pandas().set_index(["metric", "round"])
        base = images.answers(BASE, seed)
        share = numbers_by_hand(REPAIRED)["f1"][seed] / f1_by_sklearn(images, base)
        low.append(share - stored.loc[("eodd", 1), "floor_high"] / eodd_by_hand(images.label, base, images.group))
    assert curves["fate_eodd_base_floor_low"][place] == pytest.approx(statistics.mean(low), rel=1e-5)


def test_arms_are_listed_with_the_best_first(page: Page):
    means = {arm: statistics.mean(numbers_by_hand(arm)["fate"]) for arm in ARMS}
    rows = page.cells("arms")
    assert [row[0] for row in rows] == sorted(means, key=lambda arm: -means[arm])
    at = page.heads("arms").index("FATE of Eodd")
    assert rows[0][at] == pytest.approx(means[REPAIRED], rel=1e-5)


def test_trials_are_listed_at_their_selected_round(page: Page):
    rows = {row[0]: row for row in page.cells("trials")}
    assert len(page.cells("trials")) == 9
    assert set(rows) == {f"t{arm}s{seed}" for arm in range(3) for seed in SEEDS}
    at = page.heads("trials").index("F1")
    assert rows["t1s0"][at] == pytest.approx(numbers_by_hand(REPAIRED)["f1"][0], rel=1e-5)


def test_plain_html_shows_the_same_numbers_as_the_data(page: Page):
    fate = statistics.mean(numbers_by_hand(REPAIRED)["fate"])
    assert f"+{fate:.4f}" in page.sections["arms"]
    assert f"{statistics.mean(numbers_by_hand(REPAIRED)['f1']):.4f}" in page.sections["answer"]


# -- words -------------------------------------------------------------------------------------------------------------


def test_the_answer_names_the_planted_arm_and_says_that_it_is_better(page: Page):
    said = page.sections["answer"]
    assert f"Best trade-off: {REPAIRED}" in said
    assert "Against the models before pruning, F1 and Eodd are both better." in said
    assert "best of 3 arms" in said
    assert re.search(
        r"Validation split, n = 240 images; seeds 0, 1, 2, read at round 1 \(selection rule: round:1\)", said
    )


def test_arms_that_make_it_worse_are_no_answer(tmp_path: Path):
    images = Images()
    answers = {("worse", seed): images.answers((0.95, 0.05), 10 + seed) for seed in (0, 1)}
    bases = {seed: images.answers((0.95, 0.6), seed) for seed in (0, 1)}
    root = write(tmp_path / "worse", images, {"worse": {"pr_c": 0.5}}, answers, bases)
    said = Page(page_html(load_sweep(root))).sections["answer"]
    assert "No arm beats the model before pruning by FATE of Eodd; the closest is worse" in said


def test_a_base_without_a_gap_leaves_fate_undefined(tmp_path: Path):
    """Everything right: Eodd of the base is 0, and nothing can be divided by it."""
    images = Images()
    answers = {("a", 0): images.answers((0.9, 0.5), 1), ("b", 0): images.answers((0.99, 0.95), 2)}
    root = write(tmp_path / "fair", images, {"a": {"pr_c": 0.1}, "b": {"pr_c": 0.2}}, answers, {0: images.label})
    page = Page(page_html(load_sweep(root)))
    assert "No arm has a defined FATE of Eodd: the gap it divides by is 0. Highest F1: b" in page.sections["answer"]
    assert page.data["curves"]["fate_eodd_base"] == [None] * 4
    assert "NaN" not in json.dumps(page.data)


def test_a_sweep_of_many_arms_names_the_command_instead_of_comparing(planted: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reality, "MOST_COMPARED", 2)
    page = Page(page_html(load_sweep(planted)))
    said = page.sections["answer"]
    assert "that it is better than before pruning is not shown here" in said
    assert f"scp-ray compare {planted} '{REPAIRED}' base" in said
    assert "The paired comparison, line by line" not in said
    stored = [pq.read_table(planted / "evidence" / f"t1s{seed}.parquet").to_pandas() for seed in SEEDS]
    low = statistics.mean(rows.loc[rows["metric"] == "f1", "low"].iloc[0] for rows in stored)
    assert f"F1 {low:.4f} to " in said


def test_several_base_methods_are_held_against_vanilla(tmp_path: Path):
    """Of a better base a small gain, of a worse base a large one: against vanilla the first is ahead."""
    images = Images()
    arms = {"good base": {"pr_c": 0.1}, "bad base": {"pr_c": 0.2}}
    answers = {("good base", 0): images.answers((0.95, 0.9), 1), ("bad base", 0): images.answers((0.9, 0.7), 2)}
    root = write(tmp_path / "methods", images, arms, answers, {0: images.answers((0.95, 0.7), 3)})
    definition = json.loads((root / "sweep.json").read_text())
    definition["arms"][0]["trials"][0]["vanilla_id"] = "elsewhere"
    (root / "sweep.json").write_text(json.dumps(definition))
    for key, fate in (("t0s0", 0.5), ("t1s0", 0.1)):
        path = root / "rounds" / f"{key}.parquet"
        rows = pq.read_table(path).to_pandas().assign(val_fate_eodd_vanilla=[0.0, fate])
        rows.loc[1, "val_fate_eodd_base"] = 1 - fate
        rows.to_parquet(path)
    page = Page(page_html(load_sweep(root)))
    assert page.data["yardstick"] == {"gap": "eodd", "baseline": "vanilla"}
    assert "Best trade-off: good base" in page.sections["answer"]


def test_a_sweep_that_runs_says_so_and_how_far_it_is(planted: Path, tmp_path: Path):
    root = make(tmp_path / "running")
    (root / "rounds" / "t1s1.parquet").unlink()
    beat = {"host": socket.gethostname(), "pid": os.getpid(), "heartbeat": time.time(), "token": "a"}
    (root / "driver.json").write_text(json.dumps(beat))
    said = Page(page_html(load_sweep(root))).sections["answer"]
    assert f"Still running when this page was made: process {os.getpid()} on {socket.gethostname()}" in said
    assert "8 done, 1 waiting; rounds: 8 of 9" in said
    assert "Best trade-off so far: pr_c=0.1, layer=-1" in said  # the repaired arm is not whole
    (root / "driver.json").unlink()
    said = Page(page_html(load_sweep(root))).sections["answer"]
    assert "Not finished, and no driver is at work." in said and "Best trade-off so far" in said


def test_a_sweep_without_a_round_is_a_page_of_what_is_known(tmp_path: Path):
    root = make(tmp_path / "early")
    for path in (root / "rounds").iterdir():
        path.unlink()
    page = Page(page_html(load_sweep(root)))
    assert "No answer yet: no round is done." in page.sections["answer"]
    assert "charts" not in page.sections


def test_a_failure_is_told_with_its_command(tmp_path: Path):
    root = make(tmp_path / "failed")
    (root / "rounds" / "t2s0.parquet").unlink()
    (root / "failures").mkdir()
    told = {
        "label": "third, seed 0",
        "kind": "Diverged",
        "reason": "the loss is NaN <here>",
        "rerun": "scp-ray sweep x",
    }
    (root / "failures" / "t2s0.json").write_text(json.dumps(told))
    page = Page(page_html(load_sweep(root)))
    assert "the loss is NaN <here>" in page.sections["failures"]
    assert "scp-ray sweep x" in page.sections["failures"]
    assert page.data["failures"]["t2s0"]["rerun"] == "scp-ray sweep x"


def test_data_health_is_counted(planted: Path):
    sweep = load_sweep(planted)
    health = {"splits": {"train": 800, "test": 240}, "groups": {"train": {"0": 470, "1": 330}, "test": {"0": 140}}}
    health |= {"thin_cells": {"test": [["mole", 1]]}, "unknown_group": {"train": 7}}
    sweep.definition["data"] = {"abc": {"notes": ["2 images are missing <x>"], "health": health}}
    page = Page(page_html(sweep))
    said = " ".join(page.sections["health"].split())
    assert "2 images are missing <x>" in said
    cells = [text for tag, text in page.texts if tag in ("td", "th")]
    at = cells.index("train")
    assert cells[at : at + 7] == ["train", "800", "470", "330", "0", "0", "7"]
    assert cells[at + 7 : at + 14] == ["test", "240", "140", "0", "0", "1", "0"]


def test_cost_is_hours_of_what_was_kept(planted: Path):
    """Trials: 9 x 1 h on half a GPU; bases: 3 x 2 h on 4 threads of a CPU."""
    sweep = load_sweep(planted)
    sweep.definition["definition"] = {"resources": {"gpus_per_trial": 0.5}}
    sweep.rounds = sweep.rounds.assign(seconds=3600.0, device="cuda:0", threads=2)
    sweep.bases = sweep.bases.assign(seconds=7200.0, device="cpu", threads=4)
    cost = cost_of(sweep)
    assert cost is not None
    assert (cost.gpu_hours, cost.cpu_hours, cost.trials, cost.bases) == (4.5, 24.0, 9, 3)


# -- test numbers -----------------------------------------------------------------------------------------------------


def test_test_numbers_are_there_only_when_they_are_handed_over(page: Page, planted: Path):
    assert "test" not in page.sections
    assert "test" not in page.data["tables"]
    words = "Chosen by round:1 among 3 configurations; shown 2 times."
    frame = pd.DataFrame({"arm": ["a"], "validation": [0.75], "test": [0.71234567]})
    shown = Page(page_html(load_sweep(planted), test=TestSection(frame, words)))
    assert words in shown.sections["test"]
    assert "0.7123" in shown.sections["test"]
    assert shown.cells("test") == [["a", 0.75, 0.712346]]


# -- safety and form ---------------------------------------------------------------------------------------------------


def hostile(root: Path) -> Path:
    """One arm, whose name would break out of whatever is not escaped."""
    images = Images()
    answers = {(HOSTILE, seed): images.answers((0.95, 0.9), seed) for seed in (0, 1)}
    bases = {seed: images.answers(BASE, 5 + seed) for seed in (0, 1)}
    return write(root, images, {HOSTILE: {"pr_c": HOSTILE}}, answers, bases)


def test_nothing_breaks_out_of_its_place(tmp_path: Path, page: Page):
    table = PageTable(HOSTILE, HOSTILE, pd.DataFrame({HOSTILE: [HOSTILE]}))
    picture = Picture("a", HOSTILE, HOSTILE, "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    found = Page(page_html(load_sweep(hostile(tmp_path / "x")), pictures=[picture], tables=[table]))
    assert len(found.named("script")) == len(page.named("script"))
    assert found.named("b") == []
    assert found.data["arms"]["label"] == [HOSTILE]
    assert HOSTILE in found.sections["answer"]
    assert [each["alt"] for each in found.named("img")] == [HOSTILE]


def test_the_page_asks_for_nothing(planted: Path, page: Page):
    text = page_html(load_sweep(planted))
    assert all(each["href"].startswith(("#", "data:")) for each in [*page.named("a"), *page.named("link")])
    assert [each for _, each in page.elements if "src" in each] == []
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(each["content"] for each in page.named("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "connect-src" not in policy and "http" not in policy


def test_the_page_has_its_landmarks(page: Page):
    assert page.named("html")[0]["lang"] == "en"
    assert all(len(page.named(name)) == 1 for name in ("header", "main", "nav", "footer", "h1", "title"))
    assert page.named("a")[0]["href"] == "#main" and page.named("main")[0]["id"] == "main"
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {each["href"][1:] for each in page.named("a")} <= set(identifiers)


def test_the_space_can_be_run_again_as_it_is_shown(read: Any):
    text = """
name: again
trial:
  dataset: {name: synthetic, image_size: 64}
  backbone: tiny
  method: [me, fairprune]
  criterion: {name: snnl, distance: cosine}
  rounds: 2
  train: {epochs: 1, batch_size: 32, lr: 0.05}
  fine_tune: {epochs: 1, batch_size: 32, lr: 0.01}
grid: {pr_c: [0.1, 0.2]}
arms: [{label: "é", layer: -2}]
seeds: [0, 3]
"""
    from scp_ray.config import SweepConfig

    config = SweepConfig.from_dict(read(text))
    shown = space_yaml({"definition": asdict(config)})
    assert SweepConfig.from_dict(read(shown)) == config
    assert yaml.safe_load(shown)["grid"] == {"pr_c": [0.1, 0.2]}


def test_the_page_is_written_into_its_folder(planted: Path, tmp_path: Path):
    path = write_page(load_sweep(planted), tmp_path / "deep" / "report")
    assert path == tmp_path / "deep" / "report" / "index.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [each.name for each in path.parent.iterdir()] == ["index.html"]
