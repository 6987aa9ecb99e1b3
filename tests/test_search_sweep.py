"""A search as a person runs it: drivers that end, are killed and go on; what Optuna, ledger and MLflow say of it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from miniature import SPACE, TRIAL
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from scp_ray import load_sweep

pytestmark = pytest.mark.ray

OPEN = {key: value for key, value in TRIAL.items() if key != "pr_c"} | {"rounds": 1}
SEARCH: dict[str, Any] = {
    "trials": 5,
    "objectives": {"val_f1": "max", "val_eodd": "min"},
    "constraints": {"val_f1": ">= 0.5 * vanilla"},
    "space": {"pr_c": {"float": [0.02, 0.4, "log"]}, "layer": {"choice": [-1, -2, -3]}},
    "warm_start": [{"pr_c": 0.1, "layer": -1}],
    "replicates": {"seeds": [0, 1], "start": 1, "race": True},
}


def command(folder: Path, *more: str, search: dict[str, Any] = SEARCH, trial: dict[str, Any] = OPEN) -> list[str]:
    space = folder / "space.yaml"
    rest = {key: value for key, value in SPACE.items() if key not in ("seeds", "trial")}
    space.write_text(yaml.safe_dump(rest | {"trial": trial, "search": search}, sort_keys=False))
    return [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(space), "--out", str(folder), *more]


def plain_study(root: Path) -> optuna.Study:
    """As optuna-dashboard opens it: without our code."""
    storage = JournalStorage(JournalFileBackend(str(root / "optuna-journal.log")))
    return optuna.load_study(study_name="miniature", storage=storage)


def check_all_three_agree(root: Path, configurations: int) -> None:
    """Optuna's values are means of the ledger's numbers, made here with pandas, and MLflow has a run for each trial."""
    study, sweep = plain_study(root), load_sweep(root)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * configurations
    arms = {arm["search"]["number"]: arm for arm in sweep.definition["arms"]}
    assert sorted(arms) == list(range(configurations))
    assert {arm["search"]["state"] for arm in arms.values()} == {"COMPLETE"}
    trials, rounds = sweep.trials.set_index("trial_id"), sweep.rounds.set_index(["trial_id", "round"])
    assert set(trials["status"]) == {"done"}
    assert trials.index.is_unique
    vanilla = sweep.bases[sweep.bases["method"] == "vanilla"].set_index("base_id")
    for trial in study.trials:
        rows = trials.loc[[entry["trial_id"] for entry in arms[trial.number]["trials"]]]
        assert list(rows["seed"]) == trial.user_attrs["seeds"]
        chosen = rounds.loc[list(zip(rows.index, rows["selected_round"], strict=True))]
        assert trial.values == pytest.approx([chosen["val_f1"].mean(), chosen["val_eodd"].mean()], rel=1e-12)
        bound = 0.5 * vanilla.loc[rows["vanilla_id"], "val_f1"].to_numpy() - chosen["val_f1"].to_numpy()
        assert trial.constraints == pytest.approx({"val_f1": bound.mean()}, rel=1e-12)
        assert {key: arms[trial.number]["settings"][key] for key in trial.params} == trial.params
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'miniature'")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    told = [run.data.tags["scp_ray.id"] for run in runs if run.data.tags.get("scp_ray.kind") == "trial"]
    assert sorted(told) == sorted(trials.index)
    named = {run.data.tags["scp_ray.id"]: run.info.run_name for run in runs}
    assert named[trials.index[0]] == f"{trials['arm'].iloc[0]}, seed={trials['seed'].iloc[0]}"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("searched")
    ended = subprocess.run(command(out), capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return out / "miniature"


def test_optuna_the_ledger_and_mlflow_agree(searched: Path) -> None:
    check_all_three_agree(searched, 5)
    first = plain_study(searched).trials[0]
    assert first.params == {"pr_c": 0.1, "layer": -1}


def test_what_is_done_is_not_done_again_and_more_can_be_asked_for(searched: Path, tmp_path: Path) -> None:
    before = (searched / "optuna-journal.log").read_bytes()
    files = {path: path.stat().st_mtime_ns for path in searched.glob("rounds/*.parquet")}
    again = subprocess.run(command(searched.parent), capture_output=True, text=True, timeout=300)
    assert again.returncode == 0
    assert "Nothing to do" in again.stderr
    assert (searched / "optuna-journal.log").read_bytes() == before
    other = command(searched.parent, "--set", "search.objectives={val_f1: max}")
    refused = subprocess.run(other, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 2
    assert "begun with other values of objectives" in refused.stderr
    more = subprocess.run(command(searched.parent, search=SEARCH | {"trials": 6}), capture_output=True, timeout=300)
    assert more.returncode == 0
    check_all_three_agree(searched, 6)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_a_failed_seed_fails_its_configuration(tmp_path: Path) -> None:
    """A learning rate of 1e30 makes no finite loss. Of the four points two are left, then the space is used up."""
    search = SEARCH | {
        "trials": 9,
        "objectives": {"val_f1": "max"},
        "constraints": {},
        "space": {"fine_tune.lr": {"choice": [0.01, 1e30]}, "layer": {"choice": [-1, -2]}},
        "warm_start": [{"fine_tune.lr": 1e30, "layer": -1}],
        "replicates": {"seeds": [0, 1]},
        "sampler": "random",
    }
    ended = subprocess.run(
        command(tmp_path, search=search, trial=OPEN | {"pr_c": 0.1}), capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 1, ended.stderr
    assert "exhausted after 4 configurations" in ended.stderr
    root = tmp_path / "miniature"
    states = {(trial.params["fine_tune.lr"], trial.params["layer"]): trial for trial in plain_study(root).trials}
    assert {point: trial.state.name for point, trial in states.items()} == {
        (1e30, -1): "FAIL",
        (1e30, -2): "FAIL",
        (0.01, -1): "COMPLETE",
        (0.01, -2): "COMPLETE",
    }
    assert "seed 0: " in states[1e30, -1].user_attrs["reason"] or "seed 1: " in states[1e30, -1].user_attrs["reason"]
    arms = json.loads((root / "sweep.json").read_text())["arms"]
    assert sorted(arm["search"]["state"] for arm in arms) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]


def lines(root: Path) -> int:
    journal = root / "optuna-journal.log"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_a_search_killed_ten_times_ends_whole(tmp_path: Path) -> None:
    """kill -9 of the driver at random moments; 40 configurations end as 40, each once, none of them running.

    A moment is so many lines of the study's journal further on, and a little later: whatever the machine's speed,
    every driver lives to do something, and none to the end.
    """
    search = SEARCH | {"trials": 40}
    words = command(tmp_path, search=search, trial=OPEN | {"fine_tune": TRIAL["fine_tune"] | {"epochs": 3}})
    root, moments, kills = tmp_path / "miniature", random.Random(11), []
    for _ in range(10):
        driver = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        goal = lines(root) + moments.randint(0, 8)
        while lines(root) < goal and driver.poll() is None:
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 2))
        assert driver.poll() is None, "it ended before it was killed: the test has to be made longer"
        driver.kill()
        driver.wait()
        there = (root / "optuna-journal.log").exists()
        kills.append([trial.state.name for trial in plain_study(root).trials] if there else [])
    ended = subprocess.run(words, capture_output=True, text=True, timeout=5000)
    assert ended.returncode == 0, ended.stderr
    print(f"configurations when killed: {[len(each) for each in kills]}")
    assert any("RUNNING" in each for each in kills)
    check_all_three_agree(root, 40)
    points = pd.DataFrame([trial.params for trial in plain_study(root).trials])
    assert not points.duplicated().any()
    assert np.array_equal(np.sort(points.columns), ["layer", "pr_c"])
