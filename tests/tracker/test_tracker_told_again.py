"""Told late, twice, again after an error or by many at once: MLflow holds each thing once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import Server
from trackers import begun, content, going_on, live
from waiting import wait_for

from scp_ray.ledger import Ledger, Sweep
from scp_ray.ledger import live as live_database
from scp_ray.tracking.background import Background
from scp_ray.tracking.mlflow import MLflowRuns
from scp_ray.tracking.replay import replay
from scp_ray.tracking.where import trackers, tracking_uri


def test_a_request_carried_out_after_it_was_given_up_makes_no_second_run(
    ledger: Ledger, server: Server, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Another run of the sweep and two of a trial, as a server that answers late makes them: one of each is left."""
    from mlflow import MlflowClient

    sweep, client = begun(ledger, tmp_path, "late-run"), MlflowClient(server.uri)
    told = live(ledger, sweep, server.uri, said := [])
    wait_for(lambda: told.idle)
    told.close()
    assert said == []
    (experiment,) = client.search_experiments(filter_string="name = 'late-run'")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    trial = next(run for run in runs if run.data.tags.get("scp_ray.kind") == "trial")
    for like, start_time in ((parent, 1), (trial, 1), (trial, None)):
        tags = {key: value for key, value in like.data.tags.items() if key != "scp_ray.rounds_done"}
        client.create_run(experiment.experiment_id, tags=tags, start_time=start_time)
    replay(Sweep(sweep), server.uri)
    assert content(server.database, "late-run") == undisturbed


def test_telling_twice_changes_nothing(server: Server, well: Ledger, undisturbed: dict[str, Any]) -> None:
    """Not even the moment at which a run ended: the whole database is the same."""

    def tables() -> list[str]:
        with sqlite3.connect(f"file:{server.database}?mode=ro", uri=True) as database:
            return list(database.iterdump())

    before = tables()
    assert replay(Sweep(well), server.uri) == 1 + 2 * 3
    assert tables() == before
    told = Background(lambda: MLflowRuns(server.uri, well.root), well, "", lambda line: None)
    told.open(well.definition())
    for row in 2 * Sweep(well).rounds.to_dict("records"):
        told.round(row)
    wait_for(lambda: told.idle)
    told.close()
    assert content(server.database, "undisturbed") == undisturbed


def test_a_failure_and_then_a_success(
    ledger: Ledger, server: Server, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """FAILED with the reason; going on, it is running and no longer failed; done, it is as if nothing had happened.

    A trial that is neither done nor failed is killed where no driver runs.
    """
    sweep = begun(ledger, tmp_path, "failing")
    rows = list(going_on(ledger, sweep))[1:4]  # the first trial's
    trial_id, uri = rows[0]["trial_id"], server.uri
    (tmp_path / "rounds" / f"{trial_id}.parquet").unlink()
    failure = {"id": trial_id, "label": "pr_c=0.1, seed=0", "reason": "the loss became nan"}

    def shown(count: int, failure: dict[str, Any] | None, *, running: bool) -> tuple[str, str | None, int]:
        runs = MLflowRuns(uri, tmp_path)
        runs.open(sweep.definition(), running=running)
        runs.show(trial_id, rows[:count], failure, running=running)
        run = content(server.database, "failing")[trial_id]
        points = sum(key == "val_f1" for key, *_ in run["metrics"])
        return run["status"], run["tags"].get("scp_ray.failure"), points

    assert shown(0, failure, running=True) == ("FAILED", "the loss became nan", 0)
    assert shown(1, failure, running=True) == ("FAILED", "the loss became nan", 1)
    assert shown(1, None, running=True) == ("RUNNING", None, 1), "it is tried again"
    assert shown(2, None, running=False) == ("KILLED", None, 2)
    assert shown(2, failure | {"reason": "no memory"}, running=False) == ("FAILED", "no memory", 2)
    assert shown(3, None, running=True) == ("FINISHED", None, 3)
    assert content(server.database, "failing")[trial_id] == undisturbed[trial_id]


def test_what_a_search_stopped_and_a_grid_took_up_is_no_longer_stopped(
    ledger: Ledger, server: Server, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    sweep = begun(ledger, tmp_path, "taken-up")
    rows = list(going_on(ledger, sweep))[1:4]  # the first trial's
    stopped = rows[1] | {"stopped": True, "stop_reason": "asha: place 4 of 4"}

    def shown(*told: dict[str, Any]) -> tuple[str, str | None]:
        runs = MLflowRuns(server.uri, tmp_path)
        runs.open(sweep.definition(), running=True)
        runs.show(rows[0]["trial_id"], told, running=True)
        run = content(server.database, "taken-up")[rows[0]["trial_id"]]
        return run["status"], run["tags"].get("scp_ray.stopped_early")

    assert shown(rows[0], stopped) == ("FINISHED", "place 4 of 4")
    assert shown(*rows[:2]) == ("RUNNING", None)
    assert shown(*rows) == ("FINISHED", None)
    assert content(server.database, "taken-up")[rows[0]["trial_id"]] == undisturbed[rows[0]["trial_id"]]


@pytest.mark.parametrize("by", ["sweep", "track"])
def test_what_was_told_and_is_not_yet_copied_outlives_an_error(
    by: str, ledger: Ledger, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is on a network mount; MLflow raises once, after the base model's end and before any copy."""
    (tmp_path / "mountinfo").write_text(f"30 22 0:40 / {tmp_path} rw shared:1 - nfs4 server:/x rw\n")
    monkeypatch.setattr(live_database, "MOUNTS", tmp_path / "mountinfo")
    monkeypatch.setenv("SCP_RAY_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sweep = begun(ledger, tmp_path / "sweep", "copied")
    list(going_on(ledger, sweep))
    show, write, told, may_copy = MLflowRuns.show, live_database.write_bytes, list[str](), threading.Event()

    def raising(runs: MLflowRuns, job_id: str, *rest: Any, **more: Any) -> bool:
        told.append(job_id)
        if len(told) == 2:
            may_copy.set()
            raise OSError("planted")
        return show(runs, job_id, *rest, **more)

    def waiting(path: Any, content: bytes) -> None:
        assert may_copy.wait(60)
        write(path, content)

    monkeypatch.setattr(MLflowRuns, "show", raising)
    monkeypatch.setattr(live_database, "write_bytes", waiting)
    if by == "track":
        replay(Sweep(sweep), tracking_uri(sweep.root))
    else:
        background = Background(trackers(sweep), sweep, "", lambda line: None)
        background.open(sweep.definition())
        wait_for(lambda: background.idle)
        background.close()
    assert len(told) == 4 and told.count(told[1]) == 2, "each of three once, but for the one that was refused"
    assert content(sweep.root / "mlflow.db", "copied") == undisturbed
    assert sum(thread.name == "scp_ray copies" for thread in threading.enumerate()) == 0


FIRST_TOUCH = """
import json, os, sys, time
from pathlib import Path
from scp_ray.tracking.mlflow import MLflowRuns
root = Path(sys.argv[1])
start, sweep = time.time() + 0.5, json.loads((root / "sweep.json").read_text())
for number in range(8):
    if not os.fork():
        time.sleep(max(0, start - time.time()))
        try:
            MLflowRuns(f"sqlite:///{root}/shared.db", root).open(sweep | {"name": f"sweep-{number}"}, running=False)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
sys.exit(sum(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(8)))
"""


def test_eight_first_users_of_one_database(ledger: Ledger, tmp_path: Path) -> None:
    """MLflow's own first users make its tables all at once, and most of them fail."""
    begun(ledger, tmp_path, "shared")
    command = [sys.executable, "-c", FIRST_TOUCH, str(tmp_path)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert len(content(tmp_path / "shared.db", "sweep-7")) == 1
