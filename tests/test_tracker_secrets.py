"""Passwords and tokens of a tracker's address are shown nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import free_port
from trackers import begun

from scp_ray.errors import TrackingError
from scp_ray.ledger import Ledger, Sweep
from scp_ray.tracking.background import Background
from scp_ray.tracking.mlflow import MLflowRuns
from scp_ray.tracking.replay import replay
from scp_ray.tracking.secrets import redacted, shown

PASSWORD, TOKEN = "s3cret/pa@ss word", "t0ken-0f-alice"


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a port where nobody listens."""
    address = f"http://alice:s3cret%2Fpa%40ss%20word@127.0.0.1:{free_port()}/?token={TOKEN}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    return address


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    definition: dict[str, Any] = {"name": "nothing-done", "created": 1.0, "commit": None, "arms": []}
    ledger = Ledger(tmp_path / "sweep")
    ledger.root.mkdir()
    ledger.definition = lambda: definition  # type: ignore[method-assign]
    begun(ledger, ledger.root, "nothing-done")
    return Sweep(Ledger(ledger.root))


def hidden(text: str) -> bool:
    forms = (PASSWORD, "s3cret", "pa@ss", "pa%40ss", TOKEN)
    return "***" in text and not [form for form in forms if form in text]


@pytest.mark.parametrize(
    ("address", "left"),
    [
        ("https://alice:hunter22@mlflow.example.org:5000/x", "https://***@mlflow.example.org:5000/x"),
        ("https://g1thubtoken@mlflow.example.org", "https://***@mlflow.example.org"),
        ("postgresql+psycopg2://u:p@ss/w0rd@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("https://mlflow.example.org/?token=abcd1234&team=derm", "https://mlflow.example.org/?token=***&team=derm"),
        ("https://u:pw@mlflow.example.org/", "https://***@mlflow.example.org/"),
        ("https://alice:hun?ter22@mlflow.example.org/", "https://***"),  # the query begins in the password, or not
        ("https://mlflow.example.org/?token=abcd@1234", "https://***"),
        ("https://mlflow.example.org:5000", "https://mlflow.example.org:5000"),
        ("https://mlflow.example.org/?t0kenalone", "https://mlflow.example.org/?***"),
        ("mysql://db/x?sslPassword=abcd1234&X-Amz-Signature=abcd", "mysql://db/x?sslPassword=***&X-Amz-Signature=***"),
        ("https://mlflow.example.org/?sig=abcd1234&design=flat", "https://mlflow.example.org/?sig=***&design=flat"),
        ("sqlite:////home/alice/mlflow.db", "sqlite:////home/alice/mlflow.db"),
        ("sqlite:////home/a@b:c/x.db", "sqlite:////home/a@b:c/x.db"),
        ("sqlite:////x.db?mode=private,http://u:pw@h", "sqlite:////x.db?mode=private,http://***@h"),
    ],
)
def test_what_is_left_of_an_address(monkeypatch: pytest.MonkeyPatch, address: str, left: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert redacted(address) == left
    assert redacted(f"look at '{address}', please") == f"look at '{left}', please"


@pytest.mark.parametrize(
    "text",
    [
        "password authentication failed: 's3cret/pa@ss word'",
        "Max retries exceeded with url: /api?token=t0ken-0f-alice",
        "http://alice:s3cret%2fpa%40ss%20word@host and http://alice:s3cret/pa%40ss%20word@host",
        "quoted by a library: s3cret%2Fpa%40ss%20word, s3cret/pa@ss word",
    ],
)
def test_a_secret_is_found_wherever_an_error_quotes_it(address: str, text: str) -> None:
    assert hidden(redacted(text))
    assert hidden(shown(ValueError(text)))


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"])
def test_those_of_the_environment_are_hidden_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "very-private")
    assert redacted("the header said very-private") == "the header said ***"


def test_the_warning_of_a_sweep(address: str, sweep: Sweep) -> None:
    said: list[str] = []
    tracker = Background(lambda: MLflowRuns(address, sweep.ledger.root), sweep.ledger, "scp-ray track DIR", said.append)
    tracker.open(sweep.definition)
    tracker.close()
    assert len(said) == 2
    assert "127.0.0.1" in said[0], "where it was looked for is no secret"
    assert hidden(said[0])


def test_the_error_of_track(address: str, sweep: Sweep) -> None:
    with pytest.raises(TrackingError) as raised:
        replay(sweep, address)
    assert hidden(str(raised.value))
    assert raised.value.__suppress_context__, "a traceback would show MLflow's own words"


@pytest.mark.parametrize("scheme", ["http", "postgresql", "no-such-scheme"])
def test_the_command_itself(sweep: Sweep, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Errors of three libraries, and what MLflow logs beside them: everything that the process says, and all files."""
    address = f"{scheme}://alice:s3cret%2Fpa%40ss%20word@127.0.0.1:{free_port()}/mlflow?token={TOKEN}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    command = [sys.executable, "-m", "scp_ray.cli.main", "track", str(sweep.ledger.root)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert told.returncode == 3
    assert told.stderr.startswith(f"scp-ray: {scheme}://***@127.0.0.1")
    assert hidden(told.stderr) and not told.stdout
    for path in sweep.ledger.root.rglob("*"):
        assert not path.is_file() or "s3cret" not in path.read_text(errors="replace")
