"""A Ray of our own: when it starts, and that it ends whatever becomes of its driver."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from miniature import SPACE
from processes import below, left_after, runs_below
from small_tables import ISIC_HEADER, ISIC_ROWS, folder
from waiting import wait_for

from scp_ray import signals
from scp_ray.cli.preparing import put_off, ray_on_its_way
from scp_ray.config import SweepConfig
from scp_ray.errors import ResourceError
from scp_ray.tune.connection import connected
from scp_ray.tune.own_ray import OwnRay

DRIVER = """
import time
from scp_ray.tune.own_ray import OwnRay
own = OwnRay()
if {waits}:
    print(own.address(), flush=True)
time.sleep(600)
"""


@pytest.mark.ray
@pytest.mark.parametrize("up", [False, True])
def test_it_ends_with_a_driver_that_is_killed(tmp_path: Path, up: bool) -> None:
    """While it starts and when it is up. The user's folder may hold files that are called as modules."""
    for name in ("json", "ray", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "driver.py").write_text(DRIVER.format(waits=up))
    words = [sys.executable, "scripts/driver.py"]
    driver = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        if up:
            assert driver.stdout.readline().startswith("127.0.0.1:")
        else:
            wait_for(lambda: len(below(driver.pid)) > 1, driver)  # the host and Ray's first process
        family = below(driver.pid)
    finally:
        driver.kill()
        driver.communicate()
    assert len(family) >= (4 if up else 2)
    assert left_after(family, 10 if up else 2) == []  # Ray ends in its own time, and is killed while it starts


@pytest.mark.ray
def test_a_request_that_is_refused_leaves_no_ray_behind(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE | {"grid": {"pr_c": [2.0]}}))
    words = [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(space), "--out", str(tmp_path)]
    driver = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: runs_below(driver.pid, "ray_host"), driver)
    family = below(driver.pid)
    _, told = driver.communicate(timeout=60)
    assert driver.returncode == 2
    assert "pr_c" in told
    assert left_after(family, 2) == []
    assert not (tmp_path / "miniature").exists()


@pytest.mark.ray
def test_a_ray_that_cannot_start_is_an_error_that_says_why() -> None:
    with pytest.raises(ResourceError, match=r"Ray cannot be started: .*CPU"), connected(None, num_cpus=-1):
        pass


@pytest.mark.ray
def test_a_ray_that_dies_while_it_starts_is_an_error_that_says_so() -> None:
    with OwnRay() as own:
        own._process.kill()
        with pytest.raises(ResourceError, match=f"ended with exit code {-signal.SIGKILL}"):
            own.address()
        with pytest.raises(ResourceError, match="ended with exit code"):  # also whoever asks again
            own.address()


@pytest.mark.ray
def test_a_ray_that_has_died_is_not_waited_for() -> None:
    """As where the memory that the images take ends it; Ray itself would try for more than ten minutes."""
    with OwnRay() as own:
        own.address()
        family = below(own._process.pid)
        for pid, _ in family:
            os.kill(pid, signal.SIGKILL)
        assert left_after(family, 5) == []
        began = time.monotonic()
        with pytest.raises(ResourceError, match=r"cannot be joined: .*Run the same command again"), connected(own):
            pass
        assert time.monotonic() - began < 60


@pytest.mark.ray
def test_signals_to_every_process_are_left_to_the_driver() -> None:
    """As Slurm sends them; Ray's own processes go by themselves, its host with its driver."""
    with OwnRay() as own:
        own.address()
        for number in signals.SIGNALS:
            own._process.send_signal(number)
        time.sleep(0.2)
        assert own._process.poll() is None
    assert own._process.returncode == 0


@pytest.mark.ray
def test_a_token_that_cannot_be_read_is_an_error_that_says_so(tmp_path: Path, monkeypatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with OwnRay() as own, pytest.raises(ResourceError, match=r"Ray cannot be started: .*RAY_AUTH_TOKEN_PATH"):
        own.address()


@pytest.mark.ray
def test_it_is_put_off_where_images_are_still_to_be_decoded(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", ISIC_HEADER, ISIC_ROWS)
    trial = SPACE["trial"] | {"dataset": {"name": "isic2019", "root": str(data), "image_size": 32}}
    config = SweepConfig.from_dict(SPACE | {"trial": trial})
    with OwnRay() as own:
        assert put_off(own, config) is None
        assert own._process.poll() is not None
    with OwnRay() as own:
        assert put_off(own, SweepConfig.from_dict(SPACE)) is own  # drawn, not decoded
        assert own._process.poll() is None
    assert put_off("auto", config) == "auto"


@pytest.mark.parametrize(
    ("changes", "there"),
    [({"address": "auto"}, False), ({"dry_run": True}, False), ({"max_gpu_hours": 1.0}, False), ({}, True)],
)
def test_it_does_not_start_before_it_is_known_to_be_needed(tmp_path: Path, monkeypatch, changes, there: bool) -> None:
    """Elsewhere, for a plan alone, where a measurement comes first, and where there may be nothing to do."""
    monkeypatch.setattr(signals, "_taken", True)
    asked = {"out": str(tmp_path), "address": None, "dry_run": False, "max_gpu_hours": None} | changes
    if there:
        (tmp_path / "miniature").mkdir()
        (tmp_path / "miniature" / "sweep.json").write_text("{}")
    with ray_on_its_way(argparse.Namespace(**asked), {"name": "miniature"}) as place:
        assert place == asked["address"]


def test_it_does_not_start_in_the_process_of_another_program(tmp_path: Path) -> None:
    asked = argparse.Namespace(out=str(tmp_path), address=None, dry_run=False, max_gpu_hours=None)
    with ray_on_its_way(asked, {"name": "miniature"}) as place:
        assert place is None
