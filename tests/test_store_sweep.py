"""Sweeps whose folder is on an object store: the ledger of a disk, whatever happens to the store or the driver."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from miniature import SPACE, TRIAL, same_ledgers, same_rows
from stores import S3, fetched, files_below
from waiting import wait_for

from scp_ray import remote
from scp_ray.cli.main import main
from scp_ray.config import SweepConfig
from scp_ray.errors import LedgerError
from scp_ray.ledger import Ledger, load_sweep
from scp_ray.ledger.states import States
from scp_ray.remote import RemotePath
from scp_ray.tune.record import record_base, record_trial

ARMS = SPACE | {"grid": {"pr_c": [0.1, 0.2]}}
KEPT = ("rounds", "channels", "predictions", "evidence")


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCP_RAY_SCRATCH", str(folder))
        yield folder


def space_file(folder: Path, **changes: Any) -> str:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(ARMS | changes))
    return str(path)


def command(space: str, out: object, *more: str) -> list[str]:
    return [sys.executable, "-m", "scp_ray.cli.main", "sweep", space, "--out", str(out), *more]


def run(space: str, out: object, *more: str, expect: int = 0) -> dict[str, Any]:
    answer = subprocess.run(command(space, out, "--json", *more), capture_output=True, text=True, timeout=300)
    assert answer.returncode == expect, answer.stderr
    return json.loads(answer.stdout) | {"stderr": answer.stderr}


def run_alone(folder: Path) -> Path:
    """The same trials one after the other in this process: no Ray, no store, a disk."""
    ledger, device = Ledger(folder), torch.device("cpu")
    for arm in SweepConfig.from_dict(ARMS).resolved_arms():
        for trial in arm.trials:
            for base_id, base in trial.bases().items():
                if not ledger.base_done(base_id):
                    record_base(base, ledger, device=device)
            list(record_trial(trial, ledger, device=device))
    return folder


@pytest.fixture(scope="module")
def swept(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> RemotePath:
    """A whole sweep, in whose midst the store answers 503 for a while, and cuts connections for another."""
    out = s3.folder()
    ended = threading.Event()

    def disturb() -> None:
        for status, sign in ((503, "sweep.json"), (0, "rounds/")):
            while not ended.wait(0.05) and not any(sign in name for name in files_below(out)):
                pass
            with s3.trouble(status=status):
                ended.wait(2)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        summary = run(space_file(tmp_path_factory.mktemp("swept")), out)
    finally:
        ended.set()
        disturber.join()
    assert summary["finished"] == 3, "a base model and 2 trials"
    assert summary["sweep"] == f"{out}/miniature"
    return out / "miniature"


@pytest.mark.ray
def test_its_ledger_is_that_of_a_disk(swept: RemotePath, tmp_path: Path) -> None:
    alone = run_alone(tmp_path / "alone")
    same_ledgers(fetched(swept, tmp_path / "swept"), alone)
    sweep = load_sweep(str(swept))
    assert sweep.trials[["pr_c", "status", "rounds_done"]].values.tolist() == [[0.1, "done", 2], [0.2, "done", 2]]
    left, right = sweep, load_sweep_without_definition(alone, sweep)
    for kind in ("rounds", "channels", "bases"):
        same_rows(getattr(left, kind), getattr(right, kind))
    trial_id, base_id = sweep.trials["trial_id"][0], sweep.trials["base_id"][0]
    same_rows(left.predictions(trial_id), right.predictions(trial_id))
    same_rows(left.base_predictions(base_id), right.base_predictions(base_id))
    for name, value in Ledger(alone).base_state(base_id).items():
        assert torch.equal(sweep.ledger.base_state(base_id)[name], value)


def load_sweep_without_definition(alone: Path, other: Any) -> Any:
    (alone / "sweep.json").write_text(json.dumps(other.definition))
    return load_sweep(alone)


@pytest.mark.ray
def test_it_leaves_what_a_sweep_on_a_disk_leaves(swept: RemotePath, scratch: Path) -> None:
    names = files_below(swept)
    rooms = {name.partition("/")[0] for name in names}
    assert rooms - {"report"} == {*KEPT, "sweep.json", "bases", "models", "state", "mlflow.db"}
    assert not any("logs/tune" in name or "driver.json" in name for name in names)
    assert not [*scratch.glob("miniature-*/logs/tune")], "Tune's notes are gone"


def points(database: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        query = """select tags.value, metrics.key, metrics.step, metrics.value from metrics
                   join tags on tags.run_uuid = metrics.run_uuid and tags.key = 'scp_ray.id'"""
        return sorted(connection.execute(query).fetchall())


@pytest.mark.slow
@pytest.mark.ray
def test_mlflows_database_arrives_and_can_be_made_anew(swept: RemotePath, tmp_path: Path) -> None:
    def arrived(name: str) -> list[tuple[Any, ...]]:
        (tmp_path / name).write_bytes((swept / "mlflow.db").read_bytes())
        return points(tmp_path / name)

    before = arrived("before.db")
    steps = sorted(step for _, key, step, _ in before if key == "val_f1")
    assert steps == [0, 0, 0, 1, 1, 2, 2], "a base model and two trials of rounds 0, 1 and 2"
    track = [sys.executable, "-m", "scp_ray.cli.main", "track", str(swept)]
    told = subprocess.run(track, check=True, capture_output=True, text=True, timeout=120).stderr
    assert arrived("again.db") == before
    live = told.rpartition("sqlite:///")[2].strip()
    assert points(Path(live)) == before, "the database that the last line names is on this machine"
    (swept / "mlflow.db").unlink()
    subprocess.run(track, check=True, capture_output=True, timeout=120)
    assert arrived("anew.db") == before


@pytest.mark.ray
def test_status_and_report_work_there(swept: RemotePath, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(swept), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["sweep"], status["driver"]) == (str(swept), None)
    assert (status["trials"]["done"], status["rounds"]) == (2, {"done": 4, "of": 4})
    assert main(["report", str(swept.parent), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files[:3] == [f"{swept}/report/fate-curves.{kind}" for kind in ("png", "svg", "csv")]
    assert all((swept.parent / file.removeprefix(f"{swept.parent}/")).exists() for file in files)
    assert (swept / "report/fate-curves.png").read_bytes().startswith(b"\x89PNG")
    assert (swept / "report/fate-curves.csv").read_text().startswith("arm,round,seeds,")


@pytest.mark.ray
def test_again_does_nothing_and_a_dry_run_writes_nothing(
    swept: RemotePath, s3: S3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, asked = files_below(swept), len(s3.requests())
    assert main(["sweep", space_file(tmp_path), "--out", str(swept.parent), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["already_done"] == 3
    assert not [line for line in s3.requests()[asked:] if line.startswith(("PUT", "POST", "DELETE"))]
    assert main(["sweep", space_file(tmp_path), "--out", str(swept.parent)]) == 0
    assert "Nothing to do" in capsys.readouterr().err
    assert files_below(swept) == before


def test_a_trial_without_ray_writes_there_too(s3: S3, tmp_path: Path) -> None:
    out = s3.folder()
    assert main(["trial", space_file(tmp_path), "--out", str(out)]) == 0
    assert load_sweep(str(out)).trials["status"].tolist() == ["done"]
    assert not any("driver.json" in name for name in files_below(out))


@pytest.mark.parametrize(
    ("out", "words"),
    [("s3://no-such-bucket/a", "cannot write s3://no-such-bucket"), ("s3://user:secret@bucket/a", "is refused")],
)
def test_a_place_that_cannot_be_used_is_named_before_anything_starts(
    s3: S3, tmp_path: Path, out: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", space_file(tmp_path), "--out", out]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "secret" not in said


# -- states -----------------------------------------------------------------------------------------------------------


def test_states_have_two_generations_there(s3: S3) -> None:
    folder = s3.folder() / "t"
    states = States(folder)
    assert states.load() is None
    for number in (1, 2, 3):
        states.save({"round": number, "weight": torch.full((3,), float(number))})
    assert files_below(folder) == {"a.json", "a.state", "b.json", "b.state"}
    newest = States(folder).load()
    assert newest is not None and newest["round"] == 3 and newest["weight"].tolist() == [3.0] * 3
    path = folder / "a.state"  # of round 3: a, b, a
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.exchange(path.version(), bytes(damaged))
    before = States(folder).load()
    assert before is not None and before["round"] == 2
    assert (states.load() or {})["round"] == 2, "also where the writer looks again"
    states.save({"round": 4})
    assert (States(folder).load() or {})["round"] == 4
    states.keep_newest()
    assert files_below(folder) == {"a.json", "a.state"}
    states.remove()
    states.remove()
    assert files_below(folder) == set()


def test_saving_fetches_no_state_back(s3: S3) -> None:
    """A state may be a gigabyte: what this process wrote is known by the store's version of it."""
    folder = s3.folder() / "t"
    states = States(folder)
    asked = len(s3.requests())
    for number in range(4):
        states.save({"round": number})
    assert not [line for line in s3.requests()[asked:] if line.startswith("GET") and line.endswith(".state")]


def test_a_store_out_of_order_is_not_taken_for_a_missing_state(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)
    states = States(s3.folder() / "t")
    states.save({"round": 1})
    with s3.trouble(status=503), pytest.raises(LedgerError):
        states.load()


# -- drivers that die and drivers that meet ---------------------------------------------------------------------------

SLOW = {
    "trial": TRIAL | {"fine_tune": {"epochs": 12, "batch_size": 8, "lr": 0.005}},
    "checkpoint_minutes": 1e-9,
}


@pytest.mark.ray
@pytest.mark.slow
def test_the_driver_is_killed_and_the_sweep_goes_on(s3: S3, tmp_path: Path) -> None:
    """kill -9 while a base trains and after a round; the same command again; the ledger of an undisturbed run."""
    space, out = space_file(tmp_path, **SLOW), s3.folder()
    root = out / "miniature"
    run(space, tmp_path / "undisturbed")
    signs: list[Callable[[], bool]] = [lambda: bool(root.glob("state/*/*.json")), lambda: bool(root.glob("channels/*"))]
    for happened in signs:
        driver = subprocess.Popen(command(space, out), stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_for(happened, driver)
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
        assert (root / "driver.json").exists()
    summary = run(space, out)
    assert summary["finished"] > 0
    same_ledgers(fetched(root, tmp_path / "fetched"), tmp_path / "undisturbed" / "miniature")
    (tmp_path / "mlflow.db").write_bytes((root / "mlflow.db").read_bytes())
    told = [points(database) for database in (tmp_path / "mlflow.db", tmp_path / "undisturbed/miniature/mlflow.db")]
    left, right = ([point for point in all if not point[1].startswith("circumstances/")] for all in told)
    assert left == right


@pytest.mark.ray
@pytest.mark.slow
def test_a_second_driver_is_refused(s3: S3, tmp_path: Path) -> None:
    """Exit code 4, naming the process that holds the sweep; SIGTERM leaves no lease behind."""
    space, out = space_file(tmp_path, **SLOW), s3.folder()
    root = out / "miniature"
    driver = subprocess.Popen(command(space, out), stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        wait_for((root / "driver.json").exists, driver)
        second = subprocess.run(command(space, out), capture_output=True, text=True, timeout=120)
        assert second.returncode == 4
        assert f"process {driver.pid} " in second.stderr
        wait_for((root / "sweep.json").exists, driver)  # Ray has started: until then signals are its own
    finally:
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=60) == 75
    assert not (root / "driver.json").exists()
