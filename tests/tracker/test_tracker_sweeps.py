"""Commands beside a faulty MLflow: the sweep does not notice, its ledger is the same, and `track` fills what lacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import same_ledgers
from mlflow_server import Proxy, Server, free_port
from trackers import SWEEP, begun, content, going_on
from waiting import wait_for

from scp_ray.ledger import Ledger


def test_two_at_once_of_one_sweep_are_one(
    ledger: Ledger, server: Server, proxy: Proxy, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """The second ``track`` is refused with exit code 4, and says who is at it. Neither shows the password."""
    sweep = begun(ledger, tmp_path, "twice")
    list(going_on(ledger, sweep))
    proxy.delay_s = 3.0  # until the second has answered, however slow the machine
    command = [sys.executable, "-m", "scp_ray.cli.main", "track", str(tmp_path)]
    uri = proxy.uri.replace("http://", "http://alice:pa55-word@")
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "false"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(sweep.driver.exists)
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        proxy.delay_s = 0.0
        assert second.returncode == 4
        assert f"process {first.pid} " in second.stderr
        assert first.wait(timeout=120) == 0
    finally:
        first.kill()
        told, said = first.communicate()
    assert told == "" and said.endswith(f"Look: {uri.replace('alice:pa55-word', '***')}\n")
    assert not sweep.driver.exists()
    assert content(server.database, "twice") == undisturbed


def track(sweep: Ledger, uri: str) -> None:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "scp_ray.cli.main", "track", str(sweep.root)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert told.returncode == 0, told.stderr


def run_sweep(
    out: Path, uri: str, during: Callable[[Path], None] = lambda root: None, name: str = "miniature"
) -> tuple[str, str]:
    """A sweep of the command line, on a Ray of its own; returns its stdout and stderr."""
    space = out / "space.yaml"
    out.mkdir(exist_ok=True)
    space.write_text(yaml.safe_dump(SWEEP))
    command = [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(space), "--out", str(out), "--json"]
    command += ["--set", f"name={name}"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
    sweep = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        during(out / name)
        told, said = sweep.communicate(timeout=400)
    finally:
        sweep.kill()
        sweep.wait()
    assert sweep.returncode == 0, said
    return told, said


@pytest.mark.ray
def test_a_sweep_without_its_server_and_without_its_secrets(
    ledger: Ledger, server: Server, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Nobody listens at the address, which holds a password and a token: ledger equal, nothing of them written."""
    uri = f"http://alice:pa55-word@127.0.0.1:{free_port()}/at?token=t0ken-0f-alice"
    told, said = run_sweep(tmp_path / "out", uri)
    assert said.count("warning: MLflow does not take") == 1
    assert said.count("Fill it: scp-ray track") == 1
    root = tmp_path / "out" / "miniature"
    same_ledgers(ledger.root, root)
    for secret in ("pa55-word", "t0ken-0f-alice"):
        assert secret not in told + said
        assert not [path for path in root.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    track(Ledger(root), server.uri)
    assert content(server.database, "miniature", circumstances=False) == _without_circumstances(undisturbed)


def _without_circumstances(shown: dict[str, Any]) -> dict[str, Any]:
    return {
        key: run | {"metrics": [point for point in run["metrics"] if not point[0].startswith("circumstances/")]}
        for key, run in shown.items()
    }


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["none", "killed", "stopped", "500", "slow by 5 s", "disk full"])
def test_a_sweep_with_a_faulty_server(
    ledger: Ledger, server: Server, undisturbed: dict[str, Any], fault: str, small_disk: Path, tmp_path: Path
) -> None:
    """The server fails when the first row is there; the ledger is equal, and afterwards MLflow is."""
    mortal = Server(small_disk if fault == "disk full" else tmp_path, server.database)
    proxy, ballast = Proxy(mortal.port), small_disk / "ballast"

    def fail(root: Path) -> None:
        proxy.delay_s = 5.0 if fault == "slow by 5 s" else 0.0
        wait_for(lambda: any(root.glob("rounds/*.parquet")))
        proxy.broken = fault == "500"
        if fault == "killed":
            mortal.kill()
        if fault == "stopped":
            mortal.signal(signal.SIGSTOP)
        if fault == "disk full":
            left = os.statvfs(small_disk)
            ballast.write_bytes(bytes(left.f_bavail * left.f_frsize))

    try:
        _, said = run_sweep(tmp_path / "out", proxy.uri, fail, name="faulty")
        if fault == "none":
            assert "MLflow" not in said
        else:
            assert said.count("Fill it: scp-ray track") == 1
            assert said.count("warning: MLflow") <= 1
        root = tmp_path / "out" / "faulty"
        same_ledgers(ledger.root, root)
        ballast.unlink(missing_ok=True)
        if fault == "killed":
            mortal.start()
        mortal.signal(signal.SIGCONT)
        if fault != "none":
            track(Ledger(root), mortal.uri)
        assert content(mortal.database, "faulty", circumstances=False) == _without_circumstances(undisturbed)
    finally:
        proxy.close()
        mortal.kill()
