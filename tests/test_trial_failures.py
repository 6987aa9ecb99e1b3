"""A trial that fails without Ray: what failed, where, and how to run it again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from asking import MINIATURE, ask


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(MINIATURE)
    return path


def test_a_trial_that_diverges_is_recorded(space: Path, tmp_path: Path) -> None:
    answer = ask("trial", space, "--out", tmp_path, "--set", "trial.fine_tune.lr=1e30")
    assert answer.code == 1
    (entry,) = json.loads((tmp_path / "miniature" / "sweep.json").read_text())["arms"][0]["trials"]
    (path,) = (tmp_path / "miniature" / "failures").iterdir()
    failure = json.loads(path.read_text())
    assert (path.stem, failure["id"]) == (entry["trial_id"], entry["trial_id"])
    assert (failure["label"], failure["kind"]) == ("pr_c=0.05, seed=0", "DivergedError")
    assert "became" in failure["reason"] and failure["reason"] in answer.err
    assert "Traceback" in failure["traceback"]
    told = ask("status", tmp_path)
    assert told.code == 1
    assert "trials: 1 failed" in told.out
    assert f"try again: {failure['rerun']}" in told.out
    program, *again = shlex.split(failure["rerun"])
    assert program == "scp-ray"
    assert ask(*again).code == 1, "the same again"


def test_a_base_model_that_diverges_is_recorded_and_so_is_what_needs_it(space: Path, tmp_path: Path) -> None:
    assert ask("trial", space, "--out", tmp_path, "--set", "trial.train.lr=1e30").code == 1
    (entry,) = json.loads((tmp_path / "miniature" / "sweep.json").read_text())["arms"][0]["trials"]
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "miniature" / "failures").iterdir()}
    assert {key: failure["kind"] for key, failure in found.items()} == {
        entry["base_id"]: "DivergedError",
        entry["trial_id"]: "BaseFailed",
    }
    assert found[entry["base_id"]]["label"] == "base vanilla, seed=0"
    assert f"its base model {entry['base_id']} failed (base vanilla, seed=0)" in found[entry["trial_id"]]["reason"]
    assert ask("status", tmp_path, "--json").json["trials"]["failed"] == 1


def test_what_succeeds_later_has_failed_no_more(space: Path, tmp_path: Path) -> None:
    command = ("trial", space, "--out", tmp_path)
    assert ask(*command, "--set", "trial.rounds=0").code == 0
    root = tmp_path / "miniature"
    (entry,) = json.loads((root / "sweep.json").read_text())["arms"][0]["trials"]
    (root / "failures").mkdir()
    for key in ("trial_id", "base_id"):
        note = {"id": entry[key], "label": "x", "kind": "X", "reason": "no", "traceback": "", "rerun": "y", "time": 0.0}
        (root / "failures" / f"{entry[key]}.json").write_text(json.dumps(note))
    assert ask(*command).code == 0
    assert [*(root / "failures").iterdir()] == []
    assert ask("status", tmp_path).code == 0


def test_a_base_model_of_a_base_model_is_counted_and_its_failure_shown(space: Path, tmp_path: Path) -> None:
    """ME-FairPrune prunes ME's model, and is measured against vanilla's: three base models, of which one failed."""
    fast = "grid={pr_c: [0.1], method: [[{name: me, pooled: 8}, {name: fairprune, samples: 16}]]}"
    changes = (fast, "trial.train.lr=1e30", "trial.dataset.image_size=64")
    sets = [word for change in changes for word in ("--set", change)]
    assert ask("trial", space, "--out", tmp_path, *sets).code == 1
    root = tmp_path / "miniature"
    (entry,) = json.loads((root / "sweep.json").read_text())["arms"][0]["trials"]
    (me,) = entry["needs"]
    assert len({me, entry["base_id"], entry["vanilla_id"], entry["trial_id"]}) == 4
    for path in (root / "failures").iterdir():
        path.unlink()
    note = {"label": "base me, seed=0", "kind": "DivergedError", "reason": "the loss of ME became nan", "traceback": ""}
    (root / "failures" / f"{me}.json").write_text(json.dumps({"id": me, "rerun": "scp-ray sweep again", **note}))
    told = ask("status", tmp_path)
    assert told.code == 1
    assert "base models: 0 of 3" in told.out
    assert "trials: 1 failed" in told.out
    assert "failed: base me, seed=0: the loss of ME became nan\n  try again: scp-ray sweep again" in told.out
    assert ask("report", tmp_path).code == 0
    page = (root / "report" / "index.html").read_text()
    assert "the loss of ME became nan" in page and "scp-ray sweep again" in page
