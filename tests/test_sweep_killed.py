"""Sweeps whose driver or worker is killed, and a second driver on one."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from miniature import TRIAL, same_ledgers
from sweeping import command, run, space_file
from waiting import wait_for

pytestmark = pytest.mark.ray

# Slow enough to be killed in the middle: 12 epochs a round, and state at every epoch's end.
SLOW = {
    "trial": TRIAL | {"fine_tune": {"epochs": 12, "batch_size": 8, "lr": 0.005}},
    "checkpoint_minutes": 1e-9,
}


@pytest.fixture(scope="module")
def slow_undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("slow")
    run(space_file(out, **SLOW), out)
    return out / "miniature"


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("a base model is training", marks=pytest.mark.slow),
        "a round is training",
        pytest.param("a round was committed", marks=pytest.mark.slow),
    ],
)
def test_the_driver_is_killed_and_the_sweep_goes_on(slow_undisturbed: Path, tmp_path: Path, moment: str) -> None:
    """kill -9 of the driver; the same command again ends with the ledger of an undisturbed run."""
    space, root = space_file(tmp_path, **SLOW), tmp_path / "miniature"
    happened = {
        "a base model is training": lambda: any(root.glob("state/*/*.json")),
        "a round is training": lambda: any(root.glob("rounds/*.parquet")) and any(root.glob("state/*/b.json")),
        "a round was committed": lambda: any(root.glob("channels/*.parquet")),
    }[moment]
    driver = subprocess.Popen(command(space, tmp_path), stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(happened, driver)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    summary = run(space, tmp_path)
    assert summary["finished"] > 0
    same_ledgers(slow_undisturbed, root)


def test_a_worker_is_killed_and_the_sweep_goes_on(slow_undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 of a trial's own process; the driver starts it again, and the ledger is the same."""
    space, root = space_file(tmp_path, **SLOW), tmp_path / "miniature"
    driver = subprocess.Popen(command(space, tmp_path), stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: any(root.glob("channels/*.parquet")), driver)
        wait_for(lambda: bool(_workers_of(driver.pid)), driver)
        os.kill(_workers_of(driver.pid)[0], signal.SIGKILL)
        assert driver.wait(timeout=240) == 0
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()
    same_ledgers(slow_undisturbed, root)


def _workers_of(driver: int) -> list[int]:
    """Processes below the driver that run a trial: Ray names them ray::<class>.<method> while they do."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def below(pid: int) -> bool:
        while pid in parents and pid != driver:
            pid = parents[pid]
        return pid == driver

    return [int(row[0]) for row in rows if len(row) == 3 and "Trainable" in row[2] and below(int(row[0]))]


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    """Exit code 4, naming the process that holds the sweep."""
    space, root = space_file(tmp_path, **SLOW), tmp_path / "miniature"
    driver = subprocess.Popen(command(space, tmp_path), stderr=subprocess.DEVNULL)
    try:
        wait_for((root / "driver.json").exists, driver)
        second = subprocess.run(command(space, tmp_path), capture_output=True, text=True, timeout=120)
        assert second.returncode == 4
        assert f"process {driver.pid} " in second.stderr
    finally:
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=60) == 75, "stopped by a signal: run again to go on"
    assert not (root / "driver.json").exists()
