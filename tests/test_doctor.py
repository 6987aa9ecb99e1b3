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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stores import S3, files_below, forget_file_systems

from scp_ray.cli.main import main
from scp_ray.ledger import live
from scp_ray.tracking.reach import trouble_with
from scp_ray.tune.doctor import Findings, judge

DRIVER = {"Python": "3.11.9", "Ray": "2.60.0", "scp_ray": "0.1.0", "torch": "2.15.0"}
GB = 10**9
ROOT = Path(__file__).parents[1]


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


# -- results on an object store ---------------------------------------------------------------------------------------


def test_an_object_store_is_written_to(home, capsys, monkeypatch, s3: S3) -> None:
    """It has no free space to tell, MLflow's database lies elsewhere, and no folder `s3:` is made or looked at."""
    monkeypatch.chdir(home)
    out = s3.folder()
    written = len(s3.requests())
    said = doctor(capsys, "--out", str(out))
    assert said["cannot_run"] == []
    assert said["nodes"][0]["out_free"] is None
    assert said["storage"] == str(out)
    assert "SCP_RAY_SCRATCH" in said["tracker"]
    assert any(line.startswith("PUT ") for line in s3.requests()[written:])
    assert files_below(out) == set() and list(home.iterdir()) == []
    assert main(["doctor", "--out", str(out)]) == 0
    assert f"storage: {out}\n" in capsys.readouterr().out


def test_an_object_store_that_refuses(home, capsys, monkeypatch, s3: S3) -> None:
    """No such bucket, and no credentials."""
    (fault,) = doctor(capsys, "--out", "s3://no-such-bucket/sweeps", expect=3)["cannot_run"]
    assert fault.startswith("cannot write s3://no-such-bucket/sweeps: ") and "bucket" in fault
    out = s3.folder()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget_file_systems()
    try:
        (fault,) = doctor(capsys, "--out", str(out), expect=3)["cannot_run"]
    finally:
        monkeypatch.undo()
        forget_file_systems()
    assert "Unable to locate credentials" in fault
    assert fault.endswith("Every node needs the same credentials, endpoint and scp_ray[s3].")


def test_a_store_whose_package_is_not_here() -> None:
    """Doctor finds it out, and so does a node that is asked; neither takes s3:// for a local folder."""
    code = """
import sys
sys.modules["s3fs"] = None
from scp_ray.cli.main import main
from scp_ray.tune.probe import leave_mark
print(leave_mark("s3://bucket/sweeps/.probe-1"))
sys.exit(main(["doctor", "--out", "s3://bucket/sweeps"]))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 3, ended.stderr
    node, *driver = ended.stdout.splitlines()
    assert node.startswith("cannot read s3://bucket/sweeps: s3:// needs a package that is not here")
    assert node.endswith("Every node needs the same credentials, endpoint and scp_ray[s3].")
    (fault,) = [line for line in driver if line.startswith("cannot run: ")]
    assert fault.startswith("cannot run: --out: s3:// needs a package") and "pip install 'scp_ray[s3]'" in fault
    assert any(line == "storage: none" for line in driver)


def test_on_a_network_mount_the_database_lies_elsewhere(home, capsys, monkeypatch) -> None:
    assert doctor(capsys, "--out", str(home))["tracker"] == "an SQLite file in the sweep's folder"
    (home / "mountinfo").write_text(f"36 35 0:1 / {home} rw shared:1 - nfs4 server:/sweeps rw\n")
    monkeypatch.setattr(live, "MOUNTS", home / "mountinfo")
    assert "SCP_RAY_SCRATCH" in doctor(capsys, "--out", str(home / "results"))["tracker"]


# -- what is said of a node -------------------------------------------------------------------------------------------


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
        ({"out_free": None}, [], []),
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


@pytest.mark.parametrize("mark", ["/", "#", "?", "[", "]", "@", ":"])
def test_no_part_of_a_password_is_shown(home, capsys, monkeypatch, mark: str) -> None:
    """Characters that ought to be escaped: what stands before and behind them is hidden, whoever reads the address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:s3cr{mark}tw0rd@127.0.0.1:1/path")
    for words in (["doctor", "--json"], ["doctor"]):
        assert main(words) == 0
        captured = capsys.readouterr()
        assert ("http://***" if mark == "?" else "http://***@127.0.0.1:1/path") in captured.out
        assert not any(part in captured.out + captured.err for part in ("user:", "s3cr", "tw0rd"))


def test_an_address_that_cannot_be_read_is_a_hint() -> None:
    trouble = trouble_with("https://user:s3cr[t@host")
    assert trouble.startswith("the tracker's address https://***@host cannot be read. ") and "[ as %5B" in trouble


def test_a_tracker_that_is_not_there_is_a_hint_without_its_password(home, capsys, monkeypatch) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers here
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cret@{address}/?token=s3cret")
        assert main(["doctor", "--json"]) == 0
    captured = capsys.readouterr()
    assert f"the tracker at http://***@{address}/?token=*** does not answer" in captured.out
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


@pytest.fixture(scope="module")
def cluster(s3: S3) -> Iterator[str]:
    """The address of two nodes, of which the one with two fake GPUs has no credentials for s3://."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=3, num_gpus=2, env_vars={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    try:
        yield made.address
    finally:
        made.shutdown()


@pytest.mark.ray
def test_a_node_without_credentials_is_told_apart(cluster: str, s3: S3, home: Path, capsys) -> None:
    out = s3.folder()
    said = doctor(capsys, "--address", cluster, "--out", str(out), expect=3)
    (poor,) = [node["name"] for node in said["nodes"] if node["gpus"]]
    (fault,) = [fault for fault in said["cannot_run"] if "GPUs" not in fault]
    assert fault.startswith(f"{poor}: cannot read {out}: ") and "Unable to locate credentials" in fault
    assert fault.endswith("Every node needs the same credentials, endpoint and scp_ray[s3].")
    assert {node["out_free"] for node in said["nodes"]} == {None}
    assert files_below(out) == set()


@pytest.mark.ray
def test_a_driver_that_cannot_write_is_a_finding(cluster: str, home: Path, capsys) -> None:
    """Where the results cannot go the nodes are looked at all the same."""
    said = doctor(capsys, "--address", cluster, "--out", "/proc/results", expect=3)
    assert len(said["nodes"]) == 2
    (fault,) = [fault for fault in said["cannot_run"] if "GPUs" not in fault]
    assert fault.startswith("cannot write /proc/.probe-")


@pytest.mark.ray
def test_every_node_of_a_cluster_is_looked_at(cluster: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """Ray counts two GPUs on one node that torch does not see: a trial there would fail, and doctor says so."""
    import ray
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without GPUs")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    said = doctor(capsys, "--address", cluster, "--out", str(tmp_path), expect=3)
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
