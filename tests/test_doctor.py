"""What scp-ray doctor says of this machine, of a cluster, and of what is wrong with them."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from scp_ray.cli.main import main
from scp_ray.tracking.reach import trouble_with, without_secrets
from scp_ray.tune.doctor import Findings, judge

DRIVER = {"Python": "3.11.9", "Ray": "2.60.0", "scp_ray": "0.1.0", "torch": "2.15.0"}
GB = 10**9


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a Ray token, and nothing set that doctor looks at."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def doctor(capsys: pytest.CaptureFixture[str], *more: str, expect: int = 0) -> dict[str, Any]:
    code = main(["doctor", "--json", *more])
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == expect, said
    return said


def test_a_sound_machine(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started or left behind: Ray would have written a token into this home."""
    said = doctor(capsys, "--out", str(home / "results"))
    assert said["cannot_run"] == []
    (node,) = said["nodes"]
    assert node["name"] == socket.gethostname()
    assert node["cpus"] == os.cpu_count()
    assert node["versions"]["Python"] == ".".join(map(str, sys.version_info[:3]))
    free = os.statvfs(home)
    assert node["out_free"] == pytest.approx(free.f_bavail * free.f_frsize, rel=0.1)
    assert said["token"] == {"auth_mode": None, "from": None, "file_mode": None}
    assert said["storage"] == str(home / "results")
    assert list(home.iterdir()) == []
    assert main(["doctor", "--out", str(home)]) == 0
    assert "tracker: an SQLite file" in capsys.readouterr().out


def test_the_token_file_is_for_its_owner_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("b1gs3cret")
    token.chmod(0o644)
    said = doctor(capsys)
    assert [hint for hint in said["hints"] if "token" in hint] == [
        f"others on this machine can read Ray's token. chmod 600 {token}"
    ]
    token.chmod(0o600)
    said = doctor(capsys)
    assert [hint for hint in said["hints"] if "token" in hint] == []
    assert said["token"] == {"auth_mode": None, "from": str(token), "file_mode": "0600"}
    assert "b1gs3cret" not in json.dumps(said)


def test_a_token_in_the_environment_goes_before_files(home, capsys, monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "nowhere"))
    said = doctor(capsys, expect=3)
    assert said["cannot_run"] == [
        f"there is no Ray token at {home / 'nowhere'}. Copy the cluster's to it (ray get-auth-token), mode 0600."
    ]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "b1gs3cret")
    said = doctor(capsys)
    assert said["token"]["from"] == "RAY_AUTH_TOKEN"
    assert "b1gs3cret" not in json.dumps(said)


def test_authentication_that_is_switched_off_is_a_hint(home, capsys, monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert any("RAY_AUTH_MODE is disabled" in hint for hint in doctor(capsys)["hints"])


def test_results_that_cannot_be_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """/proc takes no file, from root either."""
    (fault,) = doctor(capsys, "--out", "/proc/results", expect=3)["cannot_run"]
    assert fault.startswith("cannot write /proc: ")


@pytest.mark.parametrize(
    ("change", "faults", "hints"),
    [
        ({}, [], []),
        ({"gpus": 2, "torch_gpus": 2}, [], []),
        ({"gpus": 2}, ["n1: Ray counts 2 GPUs and torch sees none"], []),
        ({"torch_gpus": 1}, [], ["n1: torch sees 1 GPUs and Ray counts none"]),
        ({"versions": DRIVER | {"Python": "3.12.1"}}, ["n1: Python is 3.12.1 there and 3.11.9"], []),
        ({"versions": DRIVER | {"Ray": "2.59.0"}}, ["n1: Ray is 2.59.0"], []),
        ({"versions": DRIVER | {"torch": "2.14.0"}}, [], ["n1: torch is 2.14.0 there and 2.15.0 here"]),
        ({"memory_free": GB}, [], ["n1: 1.0 GB of memory free"]),
        ({"memory_free": None}, [], []),
        ({"store_free": GB, "out_free": 1.5 * GB}, [], ["n1: 1.0 GB of disk of stores", "n1: 1.5 GB of disk of --out"]),
    ],
)
def test_what_is_wrong_with_a_node(change: dict[str, Any], faults: list[str], hints: list[str]) -> None:
    node = {"name": "n1", "cpus": 4, "gpus": 0, "torch_gpus": 0, "versions": DRIVER}
    node |= dict.fromkeys(("memory_free", "store_free", "out_free"), 100 * GB)
    found = Findings()
    judge(node | change, DRIVER, found)
    for told, expected in ((found.faults, faults), (found.hints, hints)):
        assert len(told) == len(expected)
        assert all(text.startswith(start) for text, start in zip(told, expected, strict=True)), told


# -- the tracker ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:s3cret@host:5000/x?token=s3cret#s3cret", "http://host:5000/x"),
        ("https://host", "https://host"),
        ("postgresql://me:s3cret@host/db?sslpassword=s3cret", "postgresql://host/db"),
        ("http://me:s3%40cret@host", "http://host"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


def test_a_tracker_that_is_not_there_is_a_hint_without_its_password(home, capsys, monkeypatch) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers here
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cret@{address}/?token=s3cret")
        assert main(["doctor", "--json"]) == 0
    captured = capsys.readouterr()
    assert f"the tracker at http://{address}/ does not answer" in captured.out
    assert "s3cret" not in captured.out + captured.err


def test_a_tracker_that_refuses_says_so() -> None:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        trouble = trouble_with(f"http://me:s3cret@127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "answers 401" in trouble
    assert "s3cret" not in trouble


def test_an_sqlite_file_needs_its_folder(tmp_path: Path) -> None:
    assert trouble_with(f"sqlite:///{tmp_path}/mlflow.db") == ""
    assert f"there is no folder {tmp_path}/absent" in trouble_with(f"sqlite:///{tmp_path}/absent/mlflow.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_tracker_that_answers_is_no_trouble(tmp_path: Path) -> None:
    """A real MLflow server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    try:
        until = time.monotonic() + 120
        while trouble_with(f"http://127.0.0.1:{port}"):
            assert server.poll() is None and time.monotonic() < until
            time.sleep(1)
    finally:
        server.terminate()
        server.wait(timeout=60)


# -- a cluster --------------------------------------------------------------------------------------------------------


@pytest.mark.ray
def test_every_node_of_a_cluster_is_looked_at(tmp_path: Path, capsys, monkeypatch) -> None:
    """Ray counts two GPUs on one node that torch does not see: a trial there would fail, and doctor says so."""
    import ray
    import torch
    from ray.cluster_utils import Cluster

    if torch.cuda.is_available():
        pytest.skip("needs a machine without GPUs")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=3, num_gpus=2)
    try:
        said = doctor(capsys, "--address", cluster.address, "--out", str(tmp_path), expect=3)
    finally:
        cluster.shutdown()
    assert not ray.is_initialized()
    assert sorted((node["cpus"], node["gpus"], node["torch_gpus"]) for node in said["nodes"]) == [(1, 0, 0), (3, 2, 0)]
    assert len({node["name"] for node in said["nodes"]}) == 2, "two nodes of one host are told apart"
    (fault,) = said["cannot_run"]
    assert "Ray counts 2 GPUs and torch sees none" in fault
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_a_cluster_that_does_not_answer(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fault,) = doctor(capsys, "--address", "127.0.0.1:9", expect=3)["cannot_run"]
    assert fault.startswith("no Ray cluster answers at '127.0.0.1:9'")
