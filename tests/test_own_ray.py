"""A Ray of our own: when it starts, and that it ends whatever becomes of its driver."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from miniature import SPACE
from processes import below, left_after
from waiting import wait_for

from scp_ray import signals
from scp_ray.cli.preparing import ray_on_its_way
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
    wait_for(lambda: bool(below(driver.pid)), driver)
    family = below(driver.pid)
    assert any(b"ray_host" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid, _ in family)
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
