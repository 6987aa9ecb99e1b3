"""MLflow dead, dying, hanging, broken, slow or full: who tells it goes on, and MLflow is complete in the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow_server import Proxy, Server, free_port
from trackers import begun, content, going_on, live
from waiting import wait_for

from scp_ray.errors import TrackingError
from scp_ray.ledger import Ledger, Sweep
from scp_ray.tracking import background
from scp_ray.tracking.background import Background
from scp_ray.tracking.replay import replay


def test_dead_at_the_start_and_there_later(
    ledger: Ledger, server: Server, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """All rows are told to nobody; when it answers, it is told all of them without anybody's doing."""
    port, said = free_port(), list[str]()
    told = live(ledger, begun(ledger, tmp_path, "late"), f"http://127.0.0.1:{port}", said)
    wait_for(lambda: bool(said))
    proxy = Proxy(server.port, own_port=port)
    try:
        wait_for(lambda: told.idle)
        told.close()
    finally:
        proxy.close()
    assert len(said) == 1 and said[0].startswith("warning: MLflow does not take what it is told (MlflowException")
    assert f"scp-ray track {tmp_path}" in said[0]
    assert content(server.database, "late") == undisturbed


def test_broken_in_the_middle_for_good(
    ledger: Ledger, server: Server, proxy: Proxy, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """It answers 500 from the third row on: one warning, one line in the end, and telling it again mends it."""
    said = list[str]()

    def break_it(number: int) -> None:
        if number == 3:
            wait_for(lambda: proxy.requests > 4)
            proxy.broken = True

    sweep = begun(ledger, tmp_path, "broken")
    told = live(ledger, sweep, proxy.uri, said, break_it)
    wait_for(lambda: bool(said))
    told.close()
    assert [line.split("(")[0] for line in said[:1]] == ["warning: MLflow does not take what it is told "]
    assert len(said) == 2 and said[1].endswith(f" base models and trials. Fill it: scp-ray track {tmp_path}")
    assert content(server.database, "broken") != undisturbed
    replay(Sweep(sweep), server.uri)
    assert content(server.database, "broken") == undisturbed


def test_killed_in_the_middle(ledger: Ledger, server: Server, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """kill -9; in its database nothing is there twice, and nothing is missing once it is told."""
    mortal, said = Server(tmp_path, server.database), list[str]()
    try:

        def kill(number: int) -> None:
            if number == 4:
                wait_for(lambda: len(content(mortal.database, "killed")) >= 3)
                mortal.kill()

        sweep = begun(ledger, tmp_path / "sweep", "killed")
        told = live(ledger, sweep, mortal.uri, said, kill)
        wait_for(lambda: bool(said))
        told.close()
    finally:
        mortal.kill()
    assert len(said) == 2 and "lacks something of" in said[1]
    assert content(mortal.database, "killed") != undisturbed
    replay(Sweep(sweep), f"sqlite:///{mortal.database}")
    assert content(mortal.database, "killed") == undisturbed


EXITS_WITH_7 = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from scp_ray.ledger import Ledger
from trackers import begun, live
live(Ledger(sys.argv[1]), begun(Ledger(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]), sys.argv[4], said := []).close()
print(*said, sep="\\n")
sys.exit(7)
"""


def test_a_server_that_hangs_keeps_no_process_from_its_exit(
    ledger: Ledger, server: Server, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """It is stopped: connections are taken and nothing is answered. The process ends with its own exit code."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", EXITS_WITH_7, str(ledger.root), str(tmp_path), "hanging", server.uri]
    environment = os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1000", "MLFLOW_ENABLE_ASYNC_LOGGING": "true"}
    environment["PYTHONPATH"] = str(root)
    with server.stopped():
        ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (7, "")
    assert ended.stdout == f"MLflow lacks something of 3 base models and trials. Fill it: scp-ray track {tmp_path}\n"
    replay(Sweep(Ledger(tmp_path)), server.uri)
    assert content(server.database, "hanging") == undisturbed


def test_its_disk_full(
    ledger: Ledger, server: Server, undisturbed: dict[str, Any], small_disk: Path, tmp_path: Path
) -> None:
    """The database lies on a disk without a byte left; once there is room again it takes all."""
    database, said = small_disk / "mlflow.db", list[str]()
    database.write_bytes(server.database.read_bytes())
    ballast, left = small_disk / "ballast", os.statvfs(small_disk)
    ballast.write_bytes(bytes(left.f_bavail * left.f_frsize))
    sweep, uri = begun(ledger, tmp_path / "sweep", "full"), f"sqlite:///{database}"
    told = live(ledger, sweep, uri, said)
    wait_for(lambda: bool(said))
    told.close()
    assert len(said) == 2 and "database or disk is full" in said[0]
    ballast.unlink()
    replay(Sweep(sweep), uri)
    assert content(database, "full") == undisturbed


def test_track_goes_on_after_a_short_fault(
    ledger: Ledger, server: Server, proxy: Proxy, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Every eleventh request is answered by 500; then all are, and that is an error."""
    sweep = begun(ledger, tmp_path, "flaky")
    list(going_on(ledger, sweep))
    proxy.every = 11
    replay(Sweep(sweep), proxy.uri)
    assert content(server.database, "flaky") == undisturbed
    proxy.every, proxy.broken = 0, True
    with pytest.raises(TrackingError, match=r"did not take the ledger: MlflowException.*too many 500.*try again"):
        replay(Sweep(sweep), proxy.uri)


def test_slow(ledger: Ledger, server: Server, proxy: Proxy, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """Half a second a request; what it was not told in time is said, and told later."""
    proxy.delay_s, said = 0.5, list[str]()
    sweep = begun(ledger, tmp_path, "slow")
    told = live(ledger, sweep, proxy.uri, said)
    told.close()
    assert len(said) == 1 and "lacks something of" in said[0], "slow is no fault, but not all was told"
    told._thread.join(30)  # a request under way would make its run beside the replay's
    replay(Sweep(sweep), server.uri)
    assert content(server.database, "slow") == undisturbed


def test_what_cannot_be_told_in_time_is_not_waited_for(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first job takes 100 s of a clock that is set by hand, the next hangs: what is left needs more than 200 s."""
    hours, hanging, may_end = SimpleNamespace(now=0.0), threading.Event(), threading.Event()

    def show(*_: Any, **__: Any) -> bool:
        if hours.now:
            hanging.set()
            may_end.wait()
        hours.now += 100.0
        return True

    tracker = SimpleNamespace(open=lambda sweep, *, running: None, show=show)
    monkeypatch.setattr(background, "time", SimpleNamespace(monotonic=lambda: hours.now))
    sweep, said = begun(ledger, tmp_path, "hopeless"), list[str]()
    told = Background(lambda: tracker, sweep, "scp-ray track", said.append)
    told.open(sweep.definition())
    assert hanging.wait(60)
    began = time.perf_counter()
    told.close(100.0)
    assert time.perf_counter() - began < 50, "of the 100 s that it might wait"
    assert said == ["MLflow lacks something of 2 base models and trials. Fill it: scp-ray track"]
    may_end.set()
    told._thread.join(30)
