"""One driver per sweep on an object store: what test_lease.py asks of a disk, and what only a store can do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fsspec
import pytest
import torch
from stores import S3, files_below

from scp_ray import remote, signals
from scp_ray.errors import LedgerError, StoreError, SweepHeldError
from scp_ray.ledger import Ledger, lease
from scp_ray.ledger.files import read_json, write_json
from scp_ray.ledger.lease import StoreLease, holds, lease_on, living_driver
from scp_ray.remote import RemotePath

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["s3", "memory"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RemotePath:
    """driver.json on S3, and on a store that cannot replace on condition."""
    monkeypatch.setattr(remote, "SETTLE_S", 0.1)
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return RemotePath("memory", "bucket/driver.json")
    return request.getfixturevalue("s3").folder() / "driver.json"


@pytest.fixture
def on_s3(s3: S3) -> RemotePath:
    return s3.folder() / "driver.json"


HOLDER = """
import sys
from scp_ray.ledger.lease import lease_on
from scp_ray.places import any_path
with lease_on(any_path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(on_s3: RemotePath) -> Iterator[subprocess.Popen[str]]:
    """Another process of this host that holds the lease."""
    command = [sys.executable, "-c", HOLDER, str(on_s3)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def driver_file(path: RemotePath, *, silence_s: float, host: str = "elsewhere") -> bytes:
    write_json(path, {"host": host, "pid": 4711, "token": "theirs", "heartbeat": time.time() - silence_s})
    return path.read_bytes()


def test_the_place_chooses_the_lease(on_s3: RemotePath, tmp_path: Path) -> None:
    assert isinstance(lease_on(on_s3), StoreLease)
    assert not isinstance(lease_on(tmp_path / "driver.json"), StoreLease)


def test_a_living_holder_is_named_and_one_that_ends_leaves_nothing(
    on_s3: RemotePath, holder: subprocess.Popen[str]
) -> None:
    before = read_json(on_s3)
    with pytest.raises(SweepHeldError, match=rf"process {holder.pid} on {socket.gethostname()}"), lease_on(on_s3):
        pass
    assert read_json(on_s3)["token"] == before["token"]
    assert (living_driver(on_s3) or {})["pid"] == holder.pid
    holder.communicate("")
    assert holder.returncode == 0
    assert files_below(on_s3.parent) == set()


def test_a_killed_holder_of_this_host_is_replaced_at_once(on_s3: RemotePath, holder: subprocess.Popen[str]) -> None:
    theirs = read_json(on_s3)["token"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lease_on(on_s3) as mine:
        assert holds(on_s3, mine.token) and not holds(on_s3, theirs)
        assert read_json(on_s3)["pid"] == os.getpid()
    assert files_below(on_s3.parent) == set()


def test_a_silent_driver_is_replaced_and_one_heard_of_lately_is_not(
    path: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    theirs = driver_file(path, silence_s=50)
    with pytest.raises(SweepHeldError, match="process 4711 on elsewhere"), lease_on(path):
        pass
    assert path.read_bytes() == theirs
    driver_file(path, silence_s=61)
    assert living_driver(path) is None
    with lease_on(path) as mine:
        assert holds(path, mine.token)
    assert not path.exists()


def test_a_driver_whose_clock_is_late_is_not_replaced(path: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 1.0)
    driver_file(path, silence_s=300)
    beat = threading.Timer(0.5, driver_file, (path,), {"silence_s": 299})
    beat.start()
    with pytest.raises(SweepHeldError, match=r"process 4711 on elsewhere, last heard of just now"), lease_on(path):
        pass
    beat.join()
    assert read_json(path)["token"] == "theirs"


def test_a_driver_that_was_refused_writes_nothing_at_its_end(s3: S3, on_s3: RemotePath) -> None:
    """Nor has a signal anything to release."""
    theirs, before = driver_file(on_s3, silence_s=0), [*signals._at_end]
    mine = lease_on(on_s3)
    asked = len(s3.requests())
    with pytest.raises(SweepHeldError):
        mine.__enter__()
    assert signals._at_end == before
    mine._release()
    assert on_s3.read_bytes() == theirs
    # of the trial to create it; the condition is looked at by the store
    assert [line.split()[0] for line in s3.requests()[asked:] if not line.startswith(("GET", "HEAD"))] == ["PUT"]


@pytest.mark.parametrize("dead", [False, True], ids=["nobody had it", "a dead one had it"])
def test_of_many_drivers_that_start_together_one_gets_the_sweep(
    path: RemotePath, dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    if dead:
        driver_file(path, silence_s=61)
    gate, held, refused = threading.Barrier(6), ExitStack(), []
    leases: list[lease.Lease] = []

    def start() -> None:
        mine = lease_on(path)
        gate.wait()
        try:
            held.enter_context(mine)
            leases.append(mine)
        except SweepHeldError as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with held:
        assert (len(leases), len(refused)) == (1, 5)
        assert holds(path, leases[0].token)


def test_the_heartbeat_goes_on_while_the_lease_is_held(path: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.01)
    with lease_on(path) as mine:
        beats = {read_json(path)["heartbeat"]}
        for _ in range(3000):
            beats.add(read_json(path)["heartbeat"])
            if len(beats) == 4:
                break
            time.sleep(0.01)
        assert len(beats) == 4, "the heartbeat stands still"
        assert not mine.lost


def test_a_driver_that_slept_through_a_takeover_cannot_write_its_heartbeat(
    on_s3: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paused between looking and writing: the store refuses, since driver.json is another version by then."""
    sleeper = StoreLease(on_s3)
    sleeper.__enter__()
    exchange = RemotePath.exchange

    def paused(path: RemotePath, version: str, content: bytes) -> str | None:
        nonlocal theirs
        monkeypatch.undo()
        theirs = driver_file(path, silence_s=0)
        return exchange(path, version, content)

    theirs = b""
    monkeypatch.setattr(RemotePath, "exchange", paused)
    assert sleeper._renew() is False
    assert theirs and on_s3.read_bytes() == theirs
    sleeper.__exit__()
    assert on_s3.read_bytes() == theirs


def test_a_heartbeat_whose_answer_was_lost_is_still_its_drivers(s3: S3, on_s3: RemotePath) -> None:
    mine = StoreLease(on_s3)
    with mine:
        driver = read_json(on_s3)
        write_json(on_s3, driver | {"heartbeat": driver["heartbeat"] + 1})  # a beat that this process does not know of
        assert mine._renew()
        assert holds(on_s3, mine.token)
    assert not on_s3.exists()


def test_a_store_out_of_order_costs_no_lease_and_says_nothing_of_it(
    s3: S3, on_s3: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)
    with lease_on(on_s3) as mine:
        with s3.trouble(status=503):
            time.sleep(0.5)
            with pytest.raises(StoreError):
                holds(on_s3, mine.token)
            with pytest.raises(LedgerError, match="Service Unavailable"):
                Ledger(on_s3.parent, token=mine.token).check_lease()
        assert not mine.lost
        assert holds(on_s3, mine.token)
    assert not on_s3.exists()


def test_a_store_that_ignores_conditions_is_refused(s3: S3, on_s3: RemotePath) -> None:
    with s3.trouble(careless=True), pytest.raises(LedgerError, match="ignores the conditions"), lease_on(on_s3):
        pass
    assert files_below(on_s3.parent) == set()


def test_a_deleted_driver_file_ends_the_lease(on_s3: RemotePath) -> None:
    mine = StoreLease(on_s3)
    with mine:
        on_s3.unlink()
        assert mine._renew() is False
    assert not on_s3.exists()


def test_nothing_is_committed_for_a_driver_that_lost_the_sweep(on_s3: RemotePath) -> None:
    driver_file(on_s3, silence_s=0)
    root = on_s3.parent
    mine = Ledger(str(root), token="mine")
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.start_trial("t", {"round": 0, "stopped": False})
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.save_model("t", 0, {"weight": torch.zeros(1)})
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.record_failure("t", {"label": "t"})
    assert files_below(root) == {"driver.json"}
    Ledger(str(root), token="theirs").start_trial("t", {"round": 0, "stopped": False})
    assert files_below(root) == {"driver.json", "rounds/t.parquet"}


def test_the_file_is_that_of_a_disk(on_s3: RemotePath, tmp_path: Path) -> None:
    with lease_on(on_s3), lease_on(tmp_path / "driver.json"):
        theirs, mine = (json.loads(place.read_bytes()) for place in (tmp_path / "driver.json", on_s3))
        assert list(mine) == list(theirs)
        assert (mine["host"], mine["pid"]) == (theirs["host"], theirs["pid"])
