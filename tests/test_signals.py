"""SIGINT, SIGTERM and SIGUSR1, sent to real drivers and workers at every kind of moment."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import SPACE, TRIAL, same_ledgers
from processes import alive, below, left_after, runs_below
from waiting import wait_for

pytestmark = pytest.mark.ray

# Each round takes seconds, and state is there from every epoch's end.
SLOW = SPACE | {
    "trial": TRIAL | {"fine_tune": {"epochs": 12, "batch_size": 8, "lr": 0.005}},
    "grid": {"pr_c": [0.1, 0.2]},
    "checkpoint_minutes": 1e-9,
}
WITHIN_S = 10.0
ENDLESS = 100_000  # epochs


def command(folder: Path, verb: str = "sweep", **changes: Any) -> list[str]:
    space = folder / "space.yaml"
    space.write_text(yaml.safe_dump(SLOW | changes))
    return [sys.executable, "-m", "scp_ray.cli.main", verb, str(space), "--out", str(folder)]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def stopped(driver: subprocess.Popen[str], number: signal.Signals, root: Path) -> None:
    """Signalled, it is out in time with its exit code, its lease gone, and none of its processes left."""
    family = below(driver.pid)
    driver.send_signal(number)
    began = time.monotonic()
    try:
        _, told = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert time.monotonic() - began < WITHIN_S
    assert driver.returncode == 75, told
    assert "run the same command again" in told
    assert not (root / "driver.json").exists()
    assert left_after(family, 2) == []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(out), check=True, capture_output=True, timeout=300)
    return out / "miniature"


@pytest.mark.slow
def test_the_driver_is_stopped_again_and_again_and_the_sweep_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    """While importing, while Ray starts, and while a round trains; then it is left alone and ends the same."""
    words, root = command(tmp_path), tmp_path / "miniature"

    importing = start(words)
    wait_for(lambda: "libtorch" in Path(f"/proc/{importing.pid}/maps").read_text(), importing)
    stopped(importing, signal.SIGTERM, root)

    starting = start(words)
    wait_for(lambda: runs_below(starting.pid, "gcs_server"), starting)
    stopped(starting, signal.SIGUSR1, root)

    training = start(words)
    wait_for(lambda: any(root.glob("state/*/b.json")) and any(root.glob("rounds/*.parquet")), training)
    stopped(training, signal.SIGTERM, root)

    subprocess.run(words, check=True, capture_output=True, timeout=300)
    same_ledgers(undisturbed, root)


def test_a_step_that_takes_for_ever_does_not_hold_the_driver_back(tmp_path: Path) -> None:
    """An epoch of minutes: a base model of which Tune sees one single step."""
    endless = TRIAL | {"train": TRIAL["train"] | {"epochs": ENDLESS}}
    driver = start(command(tmp_path, trial=endless))
    wait_for(lambda: any((tmp_path / "miniature").glob("state/*/a.json")), driver)
    stopped(driver, signal.SIGINT, tmp_path / "miniature")


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """An orderly end of Ray takes a second or two; who sends the second signal does not want to wait."""
    endless = TRIAL | {"train": TRIAL["train"] | {"epochs": ENDLESS}}
    driver = start(command(tmp_path, trial=endless))
    wait_for(lambda: any((tmp_path / "miniature").glob("state/*/a.json")), driver)
    family = below(driver.pid)
    driver.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert driver.poll() is None
    began = time.monotonic()
    driver.send_signal(signal.SIGTERM)
    driver.communicate(timeout=60)
    assert time.monotonic() - began < 2.5
    assert driver.returncode == 75
    assert not (tmp_path / "miniature" / "driver.json").exists()
    assert left_after(family, 2) == []


def test_one_trial_without_ray_is_stopped_and_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    words, root = command(tmp_path, "trial", grid={"pr_c": [0.2]}), tmp_path / "miniature"
    trial = start(words)
    wait_for(lambda: any(root.glob("rounds/*.parquet")) and any(root.glob("state/*/b.json")), trial)
    stopped(trial, signal.SIGUSR1, root)
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    (name,) = (path.name for path in (root / "rounds").glob("*.parquet"))
    for kind in ("rounds", "channels", "predictions", "evidence"):
        (tmp_path / "picked" / kind).mkdir(parents=True)
        (tmp_path / "picked" / kind / name).write_bytes((undisturbed / kind / name).read_bytes())
    same_ledgers(tmp_path / "picked", root)


@pytest.mark.slow
def test_signals_to_workers_end_them_and_use_up_no_retries(tmp_path: Path) -> None:
    """Slurm and spot machines signal every process of a node: six workers here, before anything is saved that would
    renew their job's tries; the fifth death of any other kind would be the end of it."""
    root = tmp_path / "miniature"
    endless = TRIAL | {"train": TRIAL["train"] | {"epochs": ENDLESS}}
    driver = start(command(tmp_path, trial=endless, checkpoint_minutes=600))
    numbers = itertools.cycle((signal.SIGUSR1, signal.SIGTERM))
    killed: set[int] = set()
    try:
        while len(killed) < 6:
            wait_for(lambda: bool(_working(driver.pid) - killed), driver)
            worker = min(_working(driver.pid) - killed)
            process = {each for each in below(driver.pid) if each[0] == worker}
            os.kill(worker, next(numbers))
            killed.add(worker)
            assert left_after(process, WITHIN_S) == []
        wait_for(lambda: bool(_working(driver.pid) - killed), driver)
        assert not any(root.glob("failures/*.json"))
    finally:
        driver.terminate()
        driver.communicate(timeout=60)


def _working(driver: int) -> set[int]:
    """Workers that are inside a step: Ray names them by what they do."""
    working = set()
    for pid, _ in below(driver):
        try:
            if "Trainable.train" in Path(f"/proc/{pid}/cmdline").read_text():
                working.add(pid)
        except OSError:
            continue
    return working


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_driver_is_killed_twenty_times(undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 at random moments of its whole life: the ledger ends the same, and nothing of the dead holds a CPU."""
    words, root = command(tmp_path), tmp_path / "miniature"
    moments, families = random.Random(5), []
    for _ in range(20):
        driver = start(words)
        ends, family = time.monotonic() + moments.uniform(0, 25), set[tuple[int, str]]()
        while time.monotonic() < ends and driver.poll() is None:
            family |= below(driver.pid)
            time.sleep(0.02)
        if driver.poll() is None:
            family |= below(driver.pid)
            driver.kill()
        driver.communicate()
        families.append((time.monotonic(), family))
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    same_ledgers(undisturbed, root)
    for died, family in families:
        assert left_after(family, died + 60 - time.monotonic()) == []
        assert not alive(family)
