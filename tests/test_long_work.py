"""Work of hours tells how far it is: epochs of a trial and of a model that is made again, batches of a scoring."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from asking import Answer, ask
from miniature import SPACE, TRIAL

from scp_ray import terminal

PLANS = {
    "train": TRIAL["train"] | {"epochs": 3},
    "fine_tune": TRIAL["fine_tune"] | {"epochs": 2},
    "criterion": {"name": "snnl", "batch_size": 32},
}


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then is at once."""
    monkeypatch.setattr(terminal, "PLAIN_EVERY_S", 0.0)


def steps(answer: Answer, stage: str, noun: str) -> list[str]:
    """ "1 of 3" of each line of a stage."""
    lines = [line.removeprefix(f"{stage}: ") for line in answer.err.splitlines() if line.startswith(f"{stage}: ")]
    assert all(f" {noun}" in line for line in lines)
    assert all("left" in line for line in lines[1:-1]) and " in " in lines[-1]
    return list(dict.fromkeys(line.partition(f" {noun}")[0] for line in lines))  # a round that begins says it again


def test_epochs_and_batches_are_counted(tmp_path: Path, every_step: None) -> None:
    """By hand: a base of 3 epochs, 2 rounds of 2; 96 images in batches of 32."""
    space, root = tmp_path / "space.yaml", tmp_path / "miniature"
    space.write_text(yaml.safe_dump(SPACE | {"trial": TRIAL | PLANS, "keep_models": "none"}))
    trial = ask("trial", space, "--out", tmp_path)
    assert steps(trial, "base vanilla, seed 0", "epochs") == ["1 of 3", "2 of 3", "3 of 3"]
    assert steps(trial, "fine-tuning", "epochs") == ["0 of 4", "1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    (base,) = (root / "bases").iterdir()
    scored = ask("score", "--weights", base)
    assert scored.code == 0 and steps(scored, "scoring", "batches") == ["1 of 3", "2 of 3", "3 of 3"]
    (name,) = (path.stem for path in (root / "rounds").glob("*.parquet"))
    made = ask("export", root, name, "--recompute")
    assert made.code == 0, made.err
    counted = steps(made, "making it again", "epochs")  # up to the round that was selected: 0, 1 or 2
    assert counted in ([], ["0 of 2", "1 of 2", "2 of 2"], ["0 of 4", "1 of 4", "2 of 4", "3 of 4", "4 of 4"])
