"""One label, one configuration: what is refused under a label that has rounds, and what goes on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from asking import MINIATURE, Answer, ask

from scp_ray.ledger import load_sweep


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the space, and seed 0 of its first arm."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "space.yaml").write_text(MINIATURE)
    assert trial(folder).code == 0
    return folder


@pytest.fixture
def folder(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "copy"))


def trial(folder: Path, *overrides: str) -> Answer:
    return asked("trial", folder, *overrides)


def asked(command: str, folder: Path, *overrides: str, more: tuple[str, ...] = ()) -> Answer:
    sets = [word for override in overrides for word in ("--set", override)]
    return ask(command, folder / "space.yaml", "--out", folder, *sets, *more)


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "miniature" / "sweep.json").read_text())
    return content


@pytest.mark.parametrize("seeds", ["[0]", "[1]"])
@pytest.mark.parametrize("command", ["trial", "sweep"])
def test_other_settings_under_a_label_that_has_rounds_are_refused(command: str, seeds: str, folder: Path) -> None:
    before = record(folder)
    more = ("--dry-run",) if command == "sweep" else ()
    answer = asked(command, folder, "trial.fine_tune.epochs=2", f"seeds={seeds}", more=more)
    assert answer.code == 2
    assert "arm pr_c=0.05: this sweep has rounds of that label" in answer.err
    assert "trial.fine_tune.epochs was 1, now 2." in answer.err
    assert "--set name=..." in answer.err
    assert record(folder) == before
    assert len([*(folder / "miniature" / "rounds").iterdir()]) == 1


def test_all_that_differs_is_named_plug_ins_by_their_name(folder: Path) -> None:
    answer = trial(folder, "trial.method=hsic", "trial.dataset.bias=0.5", "trial.rounds=2", "trial.select=last")
    assert answer.code == 2
    assert "trial.dataset.bias was 0.6, now 0.5; trial.method was vanilla, now hsic." in answer.err


def test_what_is_advised_helps(folder: Path) -> None:
    answer = trial(folder, "trial.fine_tune.epochs=2")
    (axis,) = re.findall(r"labels tell \(grid: (.*?)\);", answer.err)
    assert axis == "{fine_tune.epochs: [1, 2]}"
    assert trial(folder, "grid={pr_c: [0.05], fine_tune.epochs: [2]}").code == 0
    frame = load_sweep(folder / "miniature").trials
    told = [["pr_c=0.05", "done"], ["pr_c=0.05, fine_tune.epochs=2", "done"]]
    assert frame[["arm", "status"]].values.tolist() == told
    assert frame["trial_id"].nunique() == 2
    assert trial(folder, "trial.fine_tune.epochs=2", "name=other").code == 0
    assert load_sweep(folder / "other").trials["trial_id"].tolist() == [frame["trial_id"][1]]


def test_what_makes_no_other_trial_goes_on(folder: Path) -> None:
    (before,) = record(folder)["arms"]
    changes = ("trial.rounds=2", "trial.select=last", "trial.stop.th_acc=0.5", "trial.layer=8", "resources.scorers=1")
    assert trial(folder, *changes).code == 0
    assert trial(folder, *changes, "seeds=[3]").code == 0
    (after,) = record(folder)["arms"]
    assert [each["seed"] for each in after["trials"]] == [0, 3]
    assert after["trials"][0] == before["trials"][0]
    assert load_sweep(folder / "miniature").trials["status"].tolist() == ["done", "done"]


def test_an_arm_without_a_round_of_its_own_gives_its_label_away(folder: Path) -> None:
    """Its fine-tuning diverged: whoever corrects the rate has nothing to lose."""
    broken = asked("trial", folder, "trial.fine_tune.lr=1e30", "name=broken")
    assert broken.code == 1
    assert trial(folder, "name=broken").code == 0
    sweep = load_sweep(folder / "broken")
    assert sweep.trials["status"].tolist() == ["done"]
    assert sweep.definition["arms"][0]["config"]["fine_tune"]["lr"] == 0.01
