"""The pages that lead a reader by the hand, done as they say: their files written, their commands run in order."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from documents import ROOT, Reader
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


def clinic(folder: Path) -> pd.DataFrame:
    """240 pictures of 120 patients with a table as the page shows; a class is a colour, and the old are fainter."""
    draw = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    rows = []
    for number in range(240):
        kind, old = number % 3, number // 6 % 2
        pixels = np.full((72, 80, 3), 150 + 40 * old) + draw.normal(0, 12, (72, 80, 3))
        top, left = draw.integers(8, 30, 2)
        pixels[top : top + 30, left : left + 30, kind] -= 70 - 40 * old
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "photos" / f"{number:04d}.png")
        age = "" if number % 40 == 0 else str(int(draw.integers(60, 90) if old else draw.integers(20, 60)))
        rows.append((f"{number:04d}", ("melanoma", "nevus", "wart")[kind], age, f"P{number // 2:03d}"))
    with (folder / "patients.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("photo", "diagnosis", "age", "patient"), *rows])
    return pd.DataFrame(rows, columns=["photo", "diagnosis", "age", "patient"])


def test_your_own_data(tmp_path: Path) -> None:
    """From a folder of images with a table to a report; the ledger's table is the one that was written."""
    written = clinic(tmp_path / "clinic")
    said = Reader(tmp_path).follow("docs/own-data.md")
    assert "240 rows listed" in said[0]
    assert (tmp_path / "samples.png").stat().st_size > 10_000
    assert "smallest difference found with 80 % power" in said[1]
    assert "distinguishable at this n" in said[2] or "better" in said[2] or "worse" in said[2]
    report = tmp_path / "results" / "clinic" / "report"
    assert list(report.iterdir())
    bases = list((tmp_path / "results" / "clinic" / "bases").glob("*/predictions.parquet"))
    assert len(bases) == 2
    predictions = pd.concat([pd.read_parquet(path) for path in bases]).drop_duplicates(["id", "split"])
    known = written[written["age"] != ""].set_index("photo").loc[predictions["id"]]
    assert predictions["age"].tolist() == (known["age"].astype(int) >= 60).astype(int).tolist()
    assert predictions["label"].tolist() == known["diagnosis"].map({"melanoma": 0, "nevus": 1, "wart": 2}).tolist()
    assert predictions["unit"].tolist() == known["patient"].tolist()
    sides = predictions.groupby("unit")["split"].nunique()
    assert sides.max() == 1, "no patient on two sides"
    assert math.isclose(len(predictions), 117, abs_tol=6), "a quarter each of 234 for validation and test"


def test_your_own_method(tmp_path: Path) -> None:
    """In a copy of the package, as it may be anybody's: the two files are all that is added."""
    for name in ("scp_ray", "search_spaces", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    said = Reader(tmp_path, source=tmp_path).follow("docs/own-method.md")
    assert "worst-group" in said[0].splitlines()
    assert "group-means" in said[1].splitlines()
    assert " passed" in said[2]
    for name, column, count in (("worst-group", "method", 3), ("group-means", "criterion", 4)):
        rounds = pd.concat(pd.read_parquet(path) for path in (tmp_path / "results" / name / "rounds").glob("*.parquet"))
        assert len(rounds) == 2 * count
        assert name in set(rounds[column])
    assert not list((ROOT / "scp_ray").glob("*/worst_group.py"))


def test_the_first_sweep(tmp_path: Path) -> None:
    """Eight trials, the control beside them, and the numbers read back."""
    plan, first, again, table, pairs, control, numbers = Reader(tmp_path).follow("docs/first-sweep.md")
    assert "8 trials and 2 base models to run" in plan
    assert "trials: 8 done; rounds: 24 of 24" in first
    assert "Nothing to do" in again
    assert "pr_c=0.2, layer=-4" in table
    assert "the models before pruning" in pairs
    assert "2 trials and 0 base models to run; 10 already done" in control
    trials = list((tmp_path / "results" / "quickstart" / "rounds").glob("*.parquet"))
    assert len(trials) == 8 + 2, "without pruning, ratio and layer make no other trial"
    rounds = pd.concat(pd.read_parquet(path) for path in trials)
    assert rounds.groupby("criterion")["seed"].count().to_dict() == {"snnl": 8 * 4, "none": 2 * 4}
    assert "none" in numbers
