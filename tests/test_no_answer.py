"""Clusters that do not answer: what is said of them, in seconds, and signals while a command still waits."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from asking import ask
from processes import below, left_after
from waiting import wait_for

WITHIN_S = 10.0


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


class Silent:
    """Takes every connection and never says a word: a Ray that hangs."""

    def __init__(self, server: socket.socket) -> None:
        self._server, self.taken = server, list[socket.socket]()
        self.address = f"127.0.0.1:{server.getsockname()[1]}"

    def take(self) -> None:
        with suppress(OSError):  # closed at the end
            while True:
                self.taken.append(self._server.accept()[0])


@pytest.fixture
def silent() -> Iterator[Silent]:
    with socket.create_server(("", 0)) as server:  # Ray calls this machine by its outer address
        made = Silent(server)
        threading.Thread(target=made.take, daemon=True).start()
        yield made
        server.shutdown(socket.SHUT_RDWR)
        for connection in made.taken:
            connection.close()


@pytest.mark.parametrize("told_by", ["a stale file", "RAY_ADDRESS"])
def test_auto_with_a_cluster_that_has_died(tmp_path: Path, monkeypatch, nobody: str, told_by: str) -> None:
    """`ray start` leaves its address in a file, which a cluster that is killed does not take along."""
    from ray._private import services

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_gcs_addresses", frozenset)  # Rays of others on this machine
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    if told_by == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", nobody)
    else:
        (tmp_path / "ray" / "ray_current_cluster").write_text(nobody)
    began = time.monotonic()
    answer = ask("doctor", "--address", "auto", "--out", tmp_path, "--json")
    assert time.monotonic() - began < 60  # it was given up after more than ten minutes
    assert answer.code == 3
    (fault,) = answer.json["cannot_run"]
    assert fault.startswith(f"no Ray cluster answers at 'auto': {nobody}: ") and "Connection refused" in fault


def test_auto_without_any_cluster(tmp_path: Path, monkeypatch) -> None:
    from ray._private import services

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_gcs_addresses", frozenset)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (fault,) = ask("doctor", "--address", "auto", "--out", tmp_path, "--json").json["cannot_run"]
    assert fault.startswith("no Ray cluster answers at 'auto': ")


def stopped(started: subprocess.Popen[str]) -> str:
    """What it says on stderr; signalled, it is out in time with its exit code."""
    started.send_signal(signal.SIGTERM)
    began = time.monotonic()
    try:
        out, err = started.communicate(timeout=60)
    finally:
        started.kill()
    assert time.monotonic() - began < WITHIN_S
    assert started.returncode == 75, err
    assert json.loads(out) == {"interrupted": True}
    return err


@pytest.mark.parametrize("command", ["doctor", "sweep", "dry-run"])
def test_a_signal_while_a_cluster_is_waited_for(tmp_path: Path, silent: Silent, command: str) -> None:
    """Ray's core has a handler of its own by then, which ends the process as if nobody had asked it to."""
    where = ["--address", silent.address]
    space = ["sweep", "quickstart", "--out", str(tmp_path), *where]
    words = {"doctor": ["doctor", *where], "sweep": space, "dry-run": [*space, "--dry-run"]}[command]
    run = [sys.executable, "-m", "scp_ray.cli.main", *words, "--json"]
    started = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    wait_for(lambda: len(silent.taken) > 1, started)  # the first only asks whether somebody listens
    time.sleep(2)  # well into it
    err = stopped(started)
    assert "run the same command again" in err


@pytest.mark.ray
def test_a_signal_while_the_ray_of_scorers_starts(tmp_path: Path) -> None:
    import torch

    from scp_ray.config import TrialConfig

    data = "{name: synthetic, image_size: 32, train: 96, val: 64, test: 64}"
    config = TrialConfig.from_dict(
        {
            "dataset": {"name": "synthetic", "image_size": 32, "train": 96, "val": 64, "test": 64},
            "backbone": "tiny",
            "pr_c": 0.1,
        }
    )
    network = config.backbone.build(4, image_size=32, seed=0).module
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    run = [sys.executable, "-m", "scp_ray.cli.main", "score", "--weights", str(tmp_path / "weights.pt")]
    run += ["--dataset", data, "--backbone", "tiny", "--scorers", "1", "--json"]
    started = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: bool(below(started.pid)), started)  # Ray's first process
    family = below(started.pid)
    stopped(started)
    assert left_after(family, 2) == []
