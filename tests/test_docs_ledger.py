"""The page of the ledger, held against what trials write: every file, every column, every type."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from asking import ask
from documents import DOCS

import scp_ray
from scp_ray.ledger import Ledger
from scp_ray.ledger.lease import lease_on
from scp_ray.maths.gaps import GAPS
from scp_ray.tune.space import failure_of

PAGE = (DOCS / "ledger.md").read_text(encoding="utf-8")
SPACE = """\
name: written
trial:
  dataset: {name: synthetic, num_classes: 2, image_size: 64, train: 64, val: 48, test: 40}
  backbone: tiny
  pr_c: 0.1
  rounds: 1
  select: last
  train: {epochs: 1, batch_size: 16, lr: 0.02}
  fine_tune: {epochs: 1, batch_size: 16, lr: 0.01}
seeds: [0]
resources: {cpus_per_trial: 1, device: cpu}
"""
ARMS = (
    "method: [hsic]",
    "method: [{name: me, pooled: 8}]",
    "method: [{name: fairprune, samples: 16}]",
    "pick: [significant]",
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> scp_ray.ledger.load.Sweep:
    """Trials of one sweep that between them leave every kind of file, and its report."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "space.yaml").write_text(SPACE)
    for arm in ARMS:
        done = ask("trial", folder / "space.yaml", "--out", folder, "--set", f"grid={{{arm}}}")
        assert done.code == 0, done.err
    assert ask("report", folder / "written").code == 0
    return scp_ray.load_sweep(folder / "written")


def section(title: str) -> str:
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return text


def described(title: str, *, marked: bool = True) -> dict[str, str]:
    """Names and types of a section's table, those marked * or without them."""
    found = {}
    for line in section(title).splitlines():
        if line.startswith("| `"):
            first, kind = line.split(" | ")[:2]
            names = re.findall(r"`([^`]+)`(\*?)", first)
            found |= {name: kind.strip("`") for name, star in names if marked or not star}
    assert found, title
    return found


def columns(paths: list[Path]) -> dict[str, str]:
    """Of all files together; a type that differs between them is none."""
    found: dict[str, str] = {}
    assert paths
    for path in paths:
        for field in pq.read_schema(path):
            kind = re.sub(r"\[\d+\]$", "[K]", str(field.type))
            assert found.setdefault(field.name, kind) == kind, (path, field)
    return found


TABLES = {
    "channels": ["channels/*.parquet"],
    "evidence": ["evidence/*.parquet", "bases/*/evidence.parquet"],
    "scores": ["bases/*/scores/*.parquet"],
    "sparsity": ["bases/*/sparsity.parquet"],
}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_its_line(table: str, sweep: Any) -> None:
    assert columns([path for pattern in TABLES[table] for path in sweep.ledger.find(pattern)]) == described(table)


def test_every_column_of_predictions_has_its_line(sweep: Any) -> None:
    found = columns([*sweep.ledger.find("predictions/*.parquet"), *sweep.ledger.find("bases/*/predictions.parquet")])
    found["<attribute>"] = found.pop("tone")
    assert found == described("predictions")


@pytest.mark.parametrize("marked", [True, False])
def test_every_column_of_rounds_has_its_line(marked: bool, sweep: Any) -> None:
    found = columns(sweep.ledger.find("rounds/*.parquet" if marked else "bases/*/rounds.parquet"))
    trained = {name for name in found if name.startswith("train_")}
    assert {"train_loss", "train_hsic"} <= trained
    assert {found.pop(name) for name in trained} == {"double"}
    assert found | {"train_<name>": "double"} == described("rounds", marked=marked)


def test_every_file_has_its_line(sweep: Any) -> None:
    """And every line but those of a driver, a search, MLflow, a failure and an export has a file."""
    patterns = {}
    for name in described("Files"):
        patterns[name] = re.sub(r"<path>", ".+", re.sub(r"<\w*(?:id|generation)>", "[^/]+", re.escape(name)))
    root = Path(str(sweep.ledger.root))
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    met = {file: [name for name, pattern in patterns.items() if re.fullmatch(pattern, file)] for file in files}
    assert [file for file, names in met.items() if len(names) != 1] == []
    absent = set(patterns) - {name for names in met.values() for name in names}
    elsewhere = {"driver.json", "optuna-journal.log", "failures/<id>.json", "logs/mlflow/<path>"}
    elsewhere |= {"export/<trial_id>-<format>/<path>"}
    assert absent <= elsewhere | {"mlflow.db", ".mlflow.db.lock"}


def kinds(content: dict[str, Any]) -> dict[str, str]:
    return {key: "str" if value is None else type(value).__name__ for key, value in content.items()}


def test_sweep_json_has_its_lines(sweep: Any) -> None:
    assert kinds(json.loads(Path(str(sweep.ledger.definition_path)).read_text())) == described("sweep.json")
    inside = set(re.findall(r"`([^`]+)`", section("sweep.json")))
    (data,) = sweep.definition["data"].values()
    arm = sweep.definition["arms"][0]
    assert {*data, *arm, *arm["trials"][0]} <= inside


def test_failures_and_the_driver_have_their_lines(tmp_path: Path) -> None:
    """As the driver writes them: of an error, with the command that tries it again."""
    ledger = Ledger(tmp_path)
    failure = failure_of("a, seed=0", ValueError("no")) | {"rerun": "scp-ray sweep a --retry-failed"}
    ledger.record_failure("0123456789abcdef", failure)
    written = json.loads((tmp_path / "failures" / "0123456789abcdef.json").read_text())
    assert kinds(written) == described("failures")
    with lease_on(ledger.driver):
        assert kinds(json.loads((tmp_path / "driver.json").read_text())) == described("driver.json")


def test_the_frames_have_their_columns(sweep: Any) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith("| `sweep.trials`")]
    named = set(re.findall(r"`(\w+)`", line))
    axes = {"method", "criterion", "pick"}
    assert set(sweep.trials.columns) - axes <= named
    assert named <= set(sweep.trials.columns)
    assert set(sweep.evidence.columns) == {"trial_id", *described("evidence")}
    assert set(sweep.channels.columns) == {"trial_id", *described("channels")}


def test_the_metrics_of_evidence_are_named(sweep: Any) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith("| `metric`")]
    named = line.split(" | ")[2].rstrip(" |").split(", ")
    assert named == list(dict.fromkeys(sweep.evidence["metric"]))
    assert set(GAPS) <= set(named)
