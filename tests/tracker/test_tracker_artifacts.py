"""What `scp-ray track` hangs on a sweep's run: report, channels, a model; twice is once; and a tracker that fails."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.models import get_model_info
from mlflow_server import Proxy, Server

from scp_ray.cli.attaching import attached_of, best_trial
from scp_ray.cli.main import main
from scp_ray.config import TrialConfig
from scp_ray.ledger import Ledger, load_sweep
from scp_ray.tracking import replay as replaying

PAGE = b"<!doctype html><title>A report</title>"


def reported(source: Ledger, root: Path, name: str) -> Ledger:
    """A sweep of another name that is done, with a report."""
    shutil.copytree(source.root, root)
    definition = json.loads((root / "sweep.json").read_text())
    (root / "sweep.json").write_text(json.dumps(definition | {"name": name}))
    for place, content in {"index.html": PAGE, "figures/fate-curves.png": b"png", ".half": b"x"}.items():
        path = root / "report" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Ledger(root)


def track(sweep: Ledger, uri: str, monkeypatch: pytest.MonkeyPatch, *more: str, expect: int = 0) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(["track", str(sweep.root), *more]) == expect
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not sweep.driver.exists()


def parent_of(client: MlflowClient, name: str) -> Any:
    experiment = client.get_experiment_by_name(name).experiment_id
    (run,) = [run for run in client.search_runs([experiment]) if "mlflow.parentRunId" not in run.data.tags]
    return run


def everything(database: Path) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        return {name: sorted(connection.execute(f"select * from {name}").fetchall(), key=repr) for name in names}


def files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def downloaded(client: MlflowClient, run: Any, place: str, folder: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    return Path(client.download_artifacts(run.info.run_id, place, str(folder))).read_bytes()


def test_report_channels_and_model_arrive_on_a_server(
    ledger: Ledger, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Loaded back from the server, the model says of each validation image what the ledger says."""
    sweep = reported(ledger, tmp_path / "sweep", "published")
    track(sweep, server.uri, monkeypatch)
    client = MlflowClient(server.uri)
    run = parent_of(client, "published")
    places = {each.path for each in client.list_artifacts(run.info.run_id, "report")}
    assert places == {"report/index.html", "report/figures"}
    assert downloaded(client, run, "report/index.html", tmp_path / "a") == PAGE
    assert downloaded(client, run, "report/figures/fate-curves.png", tmp_path / "b") == b"png"
    path = client.download_artifacts(run.info.run_id, "tables/channels.parquet", str(tmp_path / "a"))
    found = pd.read_parquet(path).set_index(["trial_id", "round", "channel"]).sort_index()
    parts = {path.stem: pd.read_parquet(path) for path in (sweep.root / "channels").glob("*.parquet")}
    expected = pd.concat(parts, names=["trial_id"]).reset_index().set_index(["trial_id", "round", "channel"])
    pd.testing.assert_frame_equal(found, expected.drop(columns="level_1").sort_index())

    (model,) = client.search_logged_models([run.info.experiment_id])
    trial_id, index = model.tags["scp_ray.id"], int(model.params["round"])
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(server.uri)
    try:
        loaded = mlflow.pytorch.load_model(f"models:/{model.model_id}")
        info = get_model_info(f"models:/{model.model_id}")
    finally:
        mlflow.set_tracking_uri(None)
    assert model.source_run_id == run.info.run_id
    assert info.signature.inputs.inputs[0].shape == (-1, 3, 32, 32) and info.saved_input_example_info is not None
    arm = sweep.definition()["arms"][0]
    data = TrialConfig.from_dict(arm["config"] | {"seed": 0}).dataset.load()
    stored = pd.read_parquet(sweep.root / "predictions" / f"{trial_id}.parquet")
    stored = stored[(stored["split"] == "val") & (stored["round"] == index)]
    logits = loaded(data.splits["val"].image.float() / 255).detach().numpy()
    assert list(logits.argmax(1)) == list(stored["prediction"])
    np.testing.assert_allclose(logits, np.stack(list(stored["logits"])), rtol=2e-3, atol=2e-3)


def test_twice_is_once_and_a_change_is_told_alone(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No row of the database and no file is other than before; then one file of the report changes."""
    sweep = reported(ledger, tmp_path / "sweep", "again")
    uri, artifacts = f"sqlite:///{sweep.root / 'mlflow.db'}", sweep.root / "logs" / "mlflow"
    track(sweep, uri, monkeypatch)
    rows, files = everything(sweep.root / "mlflow.db"), files_below(artifacts)
    assert any("model.pt2" in path for path in files) and any("index.html" in path for path in files)
    track(sweep, uri, monkeypatch)
    again = everything(sweep.root / "mlflow.db")
    assert {name for name in rows if rows[name] != again[name]} == set()
    assert files_below(artifacts) == files
    (sweep.root / "report" / "index.html").write_bytes(PAGE + b"<p>More")
    track(sweep, uri, monkeypatch)
    now = files_below(artifacts)
    assert now.keys() == files.keys()
    assert {Path(path).name for path in now if now[path] != files[path]} == {"index.html", "artifacts.json"}


def test_a_server_that_takes_no_files_is_named_and_told_later(
    ledger: Ledger,
    server: Server,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The proxy forwards what MLflow's runs take and answers 501 to a PUT, by which files go."""
    sweep = reported(ledger, tmp_path / "sweep", "no-files")
    before = files_below(sweep.root)
    monkeypatch.setattr(replaying.time, "sleep", lambda seconds: None)
    track(sweep, proxy.uri, monkeypatch, expect=3)
    said = capsys.readouterr().err
    assert "did not take the report's files and models (all rounds of the ledger are there)" in said
    assert files_below(sweep.root) == before
    client = MlflowClient(server.uri)
    run = parent_of(client, "no-files")
    assert "scp_ray.artifacts" not in run.data.tags
    assert len(client.search_runs([run.info.experiment_id], "tags.`scp_ray.kind` = 'trial'")) == 2
    # a new process: MLflow keeps the way to the files of a run that it has talked of
    command = [sys.executable, "-m", "scp_ray.cli.main", "track", str(sweep.root)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True)
    assert downloaded(client, run, "report/index.html", tmp_path / "a") == PAGE
    assert len(client.search_logged_models([run.info.experiment_id])) == 1


def test_the_best_arm_and_its_best_trial_by_hand(tmp_path: Path) -> None:
    """Arm a: FATE 0.3 and 0.1; arm b: 0.5 and -0.4, so a is better on average, and its first trial the better one."""
    from test_load_sweep import arm, round_rows, write_sweep

    fates = {"a0": 0.3, "a1": 0.1, "b0": 0.5, "b1": -0.4}
    rounds = {key: round_rows(key, [0.0, fate], f1=[0.5, 0.5], eodd=[0.2, 0.1]) for key, fate in fates.items()}
    arms = [arm(name, {}, {0: f"{name}0", 1: f"{name}1"}, select="round:1", rounds=1) for name in ("a", "b")]
    root = write_sweep(tmp_path / "sweep", arms, rounds)
    assert best_trial(load_sweep(root)) is None
    for kept in ("a1", "b0"):
        (root / "models" / kept).mkdir(parents=True)
        (root / "models" / kept / "model.json").write_text("{}")
    assert best_trial(load_sweep(root)) == "a1", "of the best arm, what is kept"
    (root / "models" / "a0").mkdir()
    (root / "models" / "a0" / "model.json").write_text("{}")
    assert best_trial(load_sweep(root)) == "a0"


def test_no_model_or_all_of_them(ledger: Ledger) -> None:
    sweep = load_sweep(ledger.root)
    assert attached_of(sweep, "none").models == ()
    kept = attached_of(sweep, "kept").models
    assert {model.tags["scp_ray.id"] for model in kept} == set(ledger.models())
    assert all(model.example["image"].shape == (2, 3, 32, 32) for model in kept)
    with torch.no_grad():
        assert all(model.module(torch.rand(1, 3, 32, 32)).shape == (1, model.classes) for model in kept)
