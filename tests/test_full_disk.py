"""Disks that refuse: full or read-only. A real one, mounted for the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from miniature import same_ledgers
from recording import record, space_file
from tmpfs import Disk, disk

from scp_ray.cli.main import main
from scp_ray.errors import LedgerError
from scp_ray.ledger import lease
from scp_ray.ledger.lease import Lease

__all__ = ["disk"]
SCP_RAY = [sys.executable, "-m", "scp_ray.cli.main"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    record(root)
    return root


def test_wherever_the_disk_gets_full_the_trial_goes_on_once_there_is_room(disk: Disk, undisturbed: Path) -> None:
    """Room is given in small steps; what is refused, mostly state, leaves nothing half-written, and what was written
    before is gone on from. In the end the ledger is that of a disk with room for all.
    """
    root, refused, room = disk.path / "sweep", [], 4
    while True:
        disk.leave(room)
        try:
            record(root)
            break
        except LedgerError as error:
            said = str(error)
            assert "No space left on device. Free space or choose another --out" in said
            refused.append(Path(said.split()[2].rstrip(":")).relative_to(root))
        assert disk.half_written() == []
        room += 24 if len(refused) % 4 else 120
    same_ledgers(undisturbed, root)
    assert len(refused) >= 8
    assert "state" in {path.parts[0] for path in refused}


@pytest.mark.parametrize("kind", ["state", "bases", "predictions", "evidence", "channels", "rounds", "models"])
def test_a_disk_that_fills_up_while_a_round_is_committed(
    disk: Disk, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Full from the moment on at which this file is to be written."""
    from scp_ray import disk as files

    root, original = disk.path / "sweep", files.replacing

    def fill(path: Path, *more: Any) -> Any:
        if path.parts[len(root.parts)] == kind and (root / "state").exists():
            disk.leave(0)
        return original(path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replacing", fill)
        with pytest.raises(LedgerError, match=rf"cannot write {root}/{kind}/.*No space left on device"):
            record(root)
    assert disk.half_written() == []
    (disk.path / "ballast").unlink()
    record(root)
    same_ledgers(undisturbed, root)


def test_the_heartbeat_outlives_a_full_disk(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be written for a while; the driver keeps the sweep, and the next beat that finds room is written."""
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    path = disk.path / "driver.json"
    with Lease(path) as held:
        first = lease._read(path)
        disk.leave(0)
        time.sleep(0.3)
        assert lease.holds(path, held.token) and not held.lost
        assert first is not None and disk.half_written() == []
        (disk.path / "ballast").unlink()
        time.sleep(0.3)
        now = lease._read(path)
        assert now is not None and now["heartbeat"] > first["heartbeat"] + 0.3
    assert not path.exists()


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_sweep_on_a_disk_that_refuses_ends_before_anything_starts(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    space = space_file(tmp_path)
    if how == "full":
        disk.leave(0)
    else:
        disk.remount("ro")
    code = main(["sweep", str(space), "--out", str(disk.path / "results")])
    told = capsys.readouterr().err
    assert code == 2
    assert {"full": "No space left on device", "read-only": "Read-only file system"}[how] in told
    assert "choose another --out" in told and "Traceback" not in told
    disk.remount("rw")
    assert disk.half_written() == [] and not (disk.path / "results" / "miniature").exists()


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_report_that_cannot_be_written_says_so(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """The ledger stays readable: status works."""
    assert main(["trial", str(space_file(tmp_path)), "--out", str(disk.path)]) == 0
    capsys.readouterr()
    if how == "full":
        disk.leave(0)
    else:
        disk.remount("ro")
    assert main(["status", str(disk.path / "miniature")]) == 0
    assert main(["report", str(disk.path / "miniature")]) == 2
    told = capsys.readouterr().err
    assert {"full": "No space left on device", "read-only": "Read-only file system"}[how] in told
    disk.remount("rw")
    assert disk.half_written() == []


@pytest.mark.ray
@pytest.mark.parametrize("how", ["full", pytest.param("read-only", marks=pytest.mark.slow)])
def test_a_sweep_whose_disk_refuses_midway_goes_on_where_there_is_room_again(
    disk: Disk, tmp_path: Path, undisturbed: Path, how: str
) -> None:
    """A real sweep: the disk refuses once the first state is there. A clear end, and the same command goes on."""
    space, root = space_file(tmp_path), disk.path / "results" / "miniature"
    command = [*SCP_RAY, "sweep", str(space), "--out", str(disk.path / "results")]
    elsewhere = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}  # else the disk stays busy
    environment = elsewhere if how == "read-only" else None
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        for _ in range(6000):
            if any(root.glob("state/*/a.json")):
                break
            assert process.poll() is None
            time.sleep(0.01)
        if how == "full":
            disk.leave(0)
        else:
            disk.remount("ro")
        told = process.communicate(timeout=240)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (1, 2), told
    assert {"full": "No space left on device", "read-only": "Read-only file system"}[how] in told
    assert "Traceback" not in told
    disk.remount("rw")
    (disk.path / "ballast").unlink(missing_ok=True)
    assert disk.half_written() == []
    again = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    same_ledgers(undisturbed, root)


# ---- names ----
