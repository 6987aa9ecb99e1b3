"""Disks that refuse: full, read-only, names that are too long. A real one, mounted for the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from miniature import SPACE, TRIAL, same_ledgers
from tmpfs import Disk, disk

from scp_ray.cli.main import main
from scp_ray.config import ResolvedTrial, TrialConfig, resolve
from scp_ray.errors import LedgerError, ScpError
from scp_ray.ledger import Ledger, lease
from scp_ray.ledger.lease import Lease
from scp_ray.tune.record import record_base, record_trial

__all__ = ["disk"]
CPU = torch.device("cpu")
SCP_RAY = [sys.executable, "-m", "scp_ray.cli.main"]


def trial() -> ResolvedTrial:
    return resolve(TrialConfig.from_dict(TRIAL))


def record(root: Path) -> None:
    ledger, wanted = Ledger(root), trial()
    for base_id, config in wanted.bases().items():
        if not ledger.base_done(base_id):
            record_base(config, ledger, device=CPU, checkpoint_s=0)
    list(record_trial(wanted, ledger, device=CPU, checkpoint_s=0))


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


def space_file(folder: Path) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return path


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

LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "SPACE", "--out", LONG),
        ("trial", "SPACE", "--out", LONG),
        ("sweep", LONG),
        ("status", LONG),
        ("report", LONG),
        ("track", LONG),
        ("sweep", "SPACE", "--out", "/".join(["y" * 200] * 25)),
        ("sweep", "SPACE", "--out", "OUT", "--set", f"trial.dataset.root={LONG}"),
        ("status", "/nowhere/at/all"),
        ("sweep", "/nowhere/at/all.yaml"),
    ],
    ids=lambda words: "-".join(word[:9] for word in words),
)
def test_names_that_no_disk_takes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    space = tmp_path / "space.yaml"
    dataset: dict[str, Any] = {"name": "isic2019", "root": "."} if "--set" in arguments else TRIAL["dataset"]
    space.write_text(yaml.safe_dump(SPACE | {"trial": TRIAL | {"dataset": dataset}}))
    monkeypatch.chdir(tmp_path)
    words = {"SPACE": str(space), "OUT": str(tmp_path / "out")}
    assert main([words.get(word, word) for word in arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("scp-ray: ") or "scp-ray: " in told
    assert "Traceback" not in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["space.yaml"]


def test_spaces_and_other_alphabets_in_names(tmp_path: Path, undisturbed: Path) -> None:
    out = tmp_path / "Ergebnisse der Prüfung 結果 🩺"
    assert main(["trial", str(space_file(tmp_path)), "--out", str(out)]) == 0
    assert main(["report", str(out / "miniature")]) == 0
    same_ledgers(undisturbed, out / "miniature")


def test_what_killed_writers_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    from scp_ray.ledger.files import clear_half_written

    left = [".sweep.json.0123abcd", "rounds/.ab12.parquet.deadbeef", "state/x/.a.state.00000000"]
    left += ["bases/b/.model.safetensors.12345678", "state/x/.a.json.1234abcd", ".mlflow.db.1234abcd"]
    ours, theirs = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    old = [f"report/.fate-curves.{kind}.1234abcd" for kind in ("png", "svg", "csv")]
    old += [f".driver.json.new.{ours}", f".driver.json.{ours}", f".probe-{ours}/driver", f".probe-{ours}/node"]
    kept = [
        "sweep.json",
        ".hidden",
        "rounds/ab12.parquet",
        "state/x/a.state",
        ".driver.json.0123456789abcdef",
        "report/.x.svg",
        "report/.table.csv.1234abcd",
        f".driver.json.new.{theirs}",
        f".driver.json.{theirs}",
        f".probe-{theirs}/driver",
    ]
    for name in left + old + kept:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name in [*old, f".probe-{ours}"]:  # without a lease, and 61 s ago
        os.utime(tmp_path / name, times=(time.time() - 61,) * 2)
    clear_half_written(tmp_path)
    assert not (tmp_path / f".probe-{ours}").exists()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_every_refusal_is_an_error_of_ours() -> None:
    assert issubclass(LedgerError, ScpError) and LedgerError.exit_code == 2
