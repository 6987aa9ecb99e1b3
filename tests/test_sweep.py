"""Whole sweeps on a real Ray: what runs, what is skipped, what survives, and what MLflow shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from miniature import same_ledgers
from sweeping import SWEEP, command, run, space_file

from scp_ray.ledger import load_sweep

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep of 2 pr_c x 2 seeds, run once, undisturbed."""
    out = tmp_path_factory.mktemp("finished")
    summary = run(space_file(out), out)
    assert summary["finished"] == 6, "2 base models and 4 trials"
    return out / "miniature"


def test_every_arm_and_seed_is_there(finished: Path) -> None:
    sweep = load_sweep(finished)
    assert sweep.trials[["pr_c", "seed", "status", "rounds_done"]].values.tolist() == [
        [0.1, 0, "done", 2],
        [0.1, 1, "done", 2],
        [0.2, 0, "done", 2],
        [0.2, 1, "done", 2],
    ]
    assert len(sweep.rounds) == 4 * 3
    assert len(sweep.bases) == 2, "each base model is trained once, however many trials share it"
    assert sweep.rounds.groupby("trial_id")["base_id"].nunique().max() == 1


def test_a_sweep_equals_its_trials_run_alone(finished: Path, tmp_path: Path) -> None:
    """A trial run in this process, without Ray, gives the rows that the sweep's worker gave."""
    space = space_file(tmp_path, grid={"pr_c": [0.1]}, seeds=[1])
    alone = [sys.executable, "-m", "scp_ray.cli.main", "trial", str(space), "--out", str(tmp_path)]
    subprocess.run(alone, check=True, capture_output=True, timeout=120)
    trial_id = load_sweep(tmp_path / "miniature").trials["trial_id"][0]
    for kind in ("rounds", "channels", "predictions", "evidence"):
        name = f"{kind}/{trial_id}.parquet"
        (tmp_path / "picked" / kind).mkdir(parents=True)
        (tmp_path / "picked" / name).write_bytes((finished / name).read_bytes())
    same_ledgers(tmp_path / "picked", tmp_path / "miniature")


def test_again_does_nothing_then_an_arm_and_a_round_are_added(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(out)], check=True)
    out.rename(tmp_path / "miniature")
    before = _times(tmp_path / "miniature")

    again = run(space_file(tmp_path), tmp_path)
    assert (again["finished"], again["already_done"]) == (0, 6)
    assert "Nothing to do" in again["stderr"]
    assert _times(tmp_path / "miniature") == before

    added = run(space_file(tmp_path, grid={"pr_c": [0.1, 0.2, 0.3]}), tmp_path)
    assert (added["finished"], added["already_done"]) == (2, 6), "2 seeds of the new arm, no base model"
    after = _times(tmp_path / "miniature")
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 2

    longer = SWEEP["trial"] | {"rounds": 3}
    more = run(space_file(tmp_path, trial=longer), tmp_path)
    assert more["finished"] == 4
    rounds = load_sweep(tmp_path / "miniature").rounds.groupby("trial_id")["round"].max()
    assert sorted(rounds) == [2, 2, 3, 3, 3, 3]
    continued = _times(tmp_path / "miniature")
    assert all(continued[key][:3] == times for key, times in before.items()), "earlier rounds were not run again"
    steps = [step for _, key, step, _ in _points(tmp_path / "miniature") if key == "val_f1"]
    assert sorted(steps) == 2 * [0] + 6 * [0] + 6 * [1] + 6 * [2] + 4 * [3], "MLflow has each round once"


def _times(root: Path) -> dict[str, list[float]]:
    """When each round of each trial was committed."""
    frames = {path.stem: pd.read_parquet(path) for path in (root / "rounds").glob("*.parquet")}
    return {key: frame["time"].tolist() for key, frame in frames.items()}


def test_mlflow_holds_the_curves(finished: Path) -> None:
    """Parent, bases and trials are nested runs; FATE has one point a round; nothing is left running."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("miniature")
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    assert len(parents) == 1 and len(runs) == 1 + 2 + 4
    children = [each for each in runs if each.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == 6
    assert {each.info.status for each in runs} == {"FINISHED"}
    sweep = load_sweep(finished)
    for row in sweep.trials.itertuples():
        run_of = next(each for each in children if each.data.tags["scp_ray.id"] == row.trial_id)
        history = client.get_metric_history(run_of.info.run_id, "val_fate_eodd_base")
        rounds = sweep.rounds[sweep.rounds["trial_id"] == row.trial_id].set_index("round")["val_fate_eodd_base"]
        assert {point.step: point.value for point in history} == rounds.dropna().to_dict()
        assert run_of.data.params["pr_c"] == str(row.pr_c)


def test_replaying_the_ledger_changes_nothing_and_fills_an_empty_tracker(finished: Path, tmp_path: Path) -> None:
    """A second telling adds no point; a new database gets the same points."""
    subprocess.run(["cp", "-r", str(finished), str(tmp_path / "copy")], check=True)
    before = _points(tmp_path / "copy")
    track = [sys.executable, "-m", "scp_ray.cli.main", "track", str(tmp_path / "copy")]
    subprocess.run(track, check=True, capture_output=True, timeout=120)
    assert _points(tmp_path / "copy") == before
    (tmp_path / "copy" / "mlflow.db").unlink()
    subprocess.run(track, check=True, capture_output=True, timeout=120)
    assert _points(tmp_path / "copy") == before


def _points(root: Path) -> list[tuple[Any, ...]]:
    import sqlite3

    with sqlite3.connect(root / "mlflow.db") as database:
        query = """select tags.value, metrics.key, metrics.step, metrics.value from metrics
                   join tags on tags.run_uuid = metrics.run_uuid and tags.key = 'scp_ray.id'"""
        return sorted(database.execute(query).fetchall())


def test_a_failed_trial_is_named_and_stops_no_other(tmp_path: Path) -> None:
    """A fine-tuning rate of 1e30 diverges; the arm beside it finishes; the failure says how to try again."""
    space = space_file(tmp_path, grid={"fine_tune.lr": [0.01, 1e30]}, seeds=[0])
    summary = run(space, tmp_path, expect=1)
    assert summary["finished"] == 2, "the base model and the arm that works"
    assert len(summary["failed"]) == 1
    assert "fine_tune.lr=1e+30, seed=0: the loss became" in summary["stderr"]
    assert "--retry-failed" in summary["stderr"]
    again = run(space, tmp_path, expect=1)
    assert again["finished"] == 0, "a failure that would come again is not tried unless asked"
    status = [sys.executable, "-m", "scp_ray.cli.main", "status", str(tmp_path / "miniature")]
    told = subprocess.run(status, capture_output=True, text=True)
    assert told.returncode == 1
    assert "try again: scp-ray sweep" in told.stdout
    retried = run(space, tmp_path, "--retry-failed", expect=1)
    assert len(retried["to_do"]["trials"]) == 1


def test_more_gpus_than_there_are_is_refused(tmp_path: Path) -> None:
    """Exit code 3, the nearest request that fits, and no trace left."""
    space = space_file(tmp_path, resources={"gpus_per_trial": 64, "cpus_per_trial": 1})
    answer = subprocess.run(command(space, tmp_path / "out"), capture_output=True, text=True, timeout=120)
    assert answer.returncode == 3
    assert "64 GPUs" in answer.stderr
    assert "--set resources.cpus_per_trial=1 --set resources.gpus_per_trial=0" in answer.stderr
    assert not (tmp_path / "out" / "miniature").exists()
