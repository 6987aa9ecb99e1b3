"""One driver per sweep."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from tmpfs import disk

from scp_ray import signals
from scp_ray.errors import LedgerError, SweepHeldError
from scp_ray.ledger import Ledger, lease
from scp_ray.ledger.files import read_json, write_json
from scp_ray.ledger.lease import Lease, holds, living_driver

__all__ = ["disk"]
ROOT = Path(__file__).parents[1]


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


HOLDER = """
import sys
from pathlib import Path
from scp_ray.ledger.lease import Lease
with Lease(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process of this host that holds tmp_path/driver.json."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "driver.json")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def driver_file(folder: Path, *, silence_s: float, host: str = "elsewhere", pid: int = 4711) -> Path:
    path = folder / "driver.json"
    path.write_text(json.dumps({"host": host, "pid": pid, "token": "theirs", "heartbeat": time.time() - silence_s}))
    return path


def test_a_living_holder_is_named_and_keeps_the_sweep(tmp_path, holder):
    path = tmp_path / "driver.json"
    before = read_json(path)
    with (
        pytest.raises(SweepHeldError, match=rf"process {holder.pid} on {socket.gethostname()}") as caught,
        Lease(path),
    ):
        pass
    assert caught.value.exit_code == 4
    assert read_json(path)["token"] == before["token"]
    assert living_driver(path)["pid"] == holder.pid
    assert files_below(tmp_path) == {"driver.json"}


def test_a_killed_holder_of_this_host_is_replaced_at_once(tmp_path, holder):
    path = tmp_path / "driver.json"
    theirs = read_json(path)["token"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_json(path)["token"] == theirs
    with Lease(path) as mine:
        assert holds(path, mine.token)
        assert not holds(path, theirs)
        assert read_json(path)["pid"] == os.getpid()
    assert files_below(tmp_path) == set()


def test_a_holder_that_ends_leaves_no_file(tmp_path, holder):
    holder.communicate("")
    assert holder.returncode == 0
    assert files_below(tmp_path) == set()


def test_a_silent_driver_of_another_host_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    path = driver_file(tmp_path, silence_s=61)
    assert living_driver(path) is None
    with Lease(path) as mine:
        assert holds(path, mine.token)


@pytest.mark.parametrize("off_s", [-300, -61])
def test_a_driver_of_another_host_whose_clock_is_late_is_not(tmp_path, monkeypatch, off_s):
    """Its heartbeats look minutes old, but they go on."""
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.5)
    path, ended = driver_file(tmp_path, silence_s=-off_s), threading.Event()
    driver = read_json(path)

    def beat() -> None:
        while not ended.wait(0.25):
            write_json(path, driver | {"heartbeat": time.time() + off_s})

    other = threading.Thread(target=beat)
    other.start()
    try:
        with (
            pytest.raises(SweepHeldError, match=r"process 4711 on elsewhere, last heard of just now.*clocks"),
            Lease(path),
        ):
            pass
    finally:
        ended.set()
        other.join()
    assert read_json(path)["token"] == "theirs"


def test_another_driver_that_was_faster_to_replace_a_silent_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.5)
    path = driver_file(tmp_path, silence_s=300)
    driver = read_json(path) | {"host": "a third", "token": "faster"}
    faster = threading.Timer(0.25, write_json, (path, driver))
    faster.start()
    with pytest.raises(SweepHeldError, match="on a third") as caught, Lease(path):
        pass
    faster.join()
    assert "clock" not in str(caught.value)
    assert read_json(path)["token"] == "faster"


def test_a_killed_driver_of_this_host_is_not_waited_for(tmp_path, holder, monkeypatch):
    holder.kill()
    holder.wait()
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: pytest.fail("nobody else writes that file"))
    with Lease(tmp_path / "driver.json"):
        pass


def test_a_lease_that_was_refused_is_forgotten(tmp_path):
    path, before = driver_file(tmp_path, silence_s=0), [*signals._at_end]
    with pytest.raises(SweepHeldError), Lease(path):
        pass
    assert signals._at_end == before


def test_a_disk_that_became_read_only_hides_no_error(disk):
    path = disk.path / "driver.json"
    try:
        with pytest.raises(ZeroDivisionError), Lease(path):
            disk.remount("ro")
            _ = 1 / 0
    finally:
        disk.remount("rw")
    assert path.exists()


def test_a_driver_of_another_host_that_was_heard_of_lately_is_not(tmp_path):
    path = driver_file(tmp_path, silence_s=30)
    before = path.read_bytes()
    with pytest.raises(SweepHeldError, match="process 4711 on elsewhere"), Lease(path):
        pass
    assert path.read_bytes() == before


def test_a_silent_driver_of_this_host_is_replaced_though_its_number_is_in_use(tmp_path):
    path = driver_file(tmp_path, silence_s=61, host=socket.gethostname(), pid=os.getppid())
    with Lease(path) as mine:
        assert holds(path, mine.token)


def test_of_two_drivers_that_start_together_only_one_believes_it_holds_the_sweep(tmp_path):
    path = tmp_path / "driver.json"
    rival, tried = Lease(path), []

    class Slow(Lease):
        def _content(self) -> dict[str, Any]:
            """While this driver makes its file, another one comes."""
            if not tried:
                tried.append(True)
                with suppress(SweepHeldError):
                    rival.__enter__()
            return super()._content()

    believers = []
    with suppress(SweepHeldError), Slow(path) as slow:
        believers.append(slow.token)
    if rival._thread.is_alive():
        believers.append(rival.token)
        rival.__exit__()
    assert tried
    assert len(believers) == 1


def test_the_heartbeat_goes_on_while_the_lease_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.01)
    path = tmp_path / "driver.json"
    with Lease(path):
        first = read_json(path)["heartbeat"]
        for _ in range(3000):
            if read_json(path)["heartbeat"] > first:
                break
            time.sleep(0.01)
        else:
            pytest.fail("the heartbeat stands still")


def test_a_lease_that_was_lost_is_not_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "driver.json"
    with Lease(path) as lost:
        theirs = driver_file(tmp_path, silence_s=0).read_bytes()
        monkeypatch.setattr(lease, "HEARTBEAT_S", 0.0)
        end = threading.Timer(5, lost._stop.set)  # for a heartbeat that would go on for ever
        end.start()
        lost._beat()
        end.cancel()
        assert path.read_bytes() == theirs
    assert path.read_bytes() == theirs


def test_nothing_is_committed_for_a_driver_that_lost_the_sweep(tmp_path):
    driver_file(tmp_path, silence_s=0)
    Ledger(tmp_path).check_lease()
    mine = Ledger(tmp_path, token="mine")
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.check_lease()
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.start_trial("t", {"round": 0, "stopped": False})
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.save_model("t", 0, {"weight": torch.zeros(1)})
    assert files_below(tmp_path) == {"driver.json"}
    Ledger(tmp_path, token="theirs").start_trial("t", {"round": 0, "stopped": False})
    assert files_below(tmp_path) == {"driver.json", "rounds/t.parquet"}
    (tmp_path / "driver.json").unlink()
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.check_lease()
