"""Base models at chance are warned of wherever something is planned on them, not only where they are trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml
from asking import ask
from miniature import SPACE, TRIAL
from sklearn.metrics import balanced_accuracy_score

from scp_ray.tune.chance import chance_warning


def row(accuracy: float) -> dict[str, float]:
    return {"num_classes": 4, "val_n": 100, "val_balanced_accuracy": accuracy}


def test_two_standard_errors_above_a_guess_is_no_guess() -> None:
    """By hand: 0.25 + 2 sqrt(0.25 * 0.75 / 100) = 0.33660."""
    assert chance_warning({"base vanilla, seed=0": row(0.3367)}) == ""
    told = chance_warning({"base vanilla, seed=0": row(0.3364), "base mfd, seed=0": row(0.9)})
    assert "base vanilla, seed=0 is at chance: balanced accuracy 0.336, guessing gives 0.250." in told
    both = chance_warning({f"base vanilla, seed={seed}": row(0.25) for seed in range(14)} | {"fine": row(0.9)})
    assert "14 of 15 base models are at chance" in both and "; and 2 more. A constant" in both
    assert "seed=11 " in both and "seed=12 " not in both


def test_the_plan_warns_of_those_in_the_ledger(tmp_path: Path) -> None:
    """One that learnt nothing, at a rate of 1e-9: a dry run of another arm says so, and so does a trial."""
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE | {"trial": TRIAL | {"train": TRIAL["train"] | {"lr": 1e-9}}}))
    asked = (space, "--out", tmp_path, "--set", "trial.rounds=1")
    assert "is at chance" not in ask("sweep", *asked, "--dry-run").err  # nobody knows yet
    trained = ask("trial", *asked)
    (base,) = (tmp_path / "miniature" / "bases").iterdir()
    said = pd.read_parquet(base / "predictions.parquet")
    said = said[said["split"] == "val"]
    accuracy = balanced_accuracy_score(said["label"], said["prediction"])
    warning = f"warning: base vanilla, seed=0 is at chance: balanced accuracy {accuracy:.3f}, guessing gives 0.250."
    assert accuracy < 0.35
    lines = [line for line in trained.err.splitlines() if line.startswith("round ")]
    assert lines[0].startswith("round 0: ") and lines[0].endswith("FATE undefined: the baseline's gap is 0")
    for answer in (trained, ask("sweep", *asked, "--set", "grid.pr_c=[0.2]", "--dry-run"), ask("trial", *asked)):
        assert answer.code == 0
        assert answer.err.count(warning) == 1
