"""The tracker's process: it tells what the driver hears, its death costs nothing but what it would have told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trackers import begun, content, going_on

from scp_ray.ledger import Ledger, Sweep
from scp_ray.tracking.apart import Apart
from scp_ray.tracking.replay import replay
from scp_ray.tracking.where import tracking_uri


def test_it_tells_what_a_replay_tells_without_torch_and_leaves_no_process(ledger: Ledger, tmp_path: Path) -> None:
    live, said = begun(ledger, tmp_path / "live", "live"), list[str]()
    tracker = Apart(live, "scp-ray track live", said.append)
    tracker.open(live.definition())
    for row in going_on(ledger, live):
        tracker.round(row)
    assert tracker._ready.wait(60)
    mapped = Path(f"/proc/{tracker._process.pid}/maps").read_text()
    assert "libarrow" in mapped and "libtorch" not in mapped
    tracker.close()
    assert said == []
    assert not Path(f"/proc/{tracker._process.pid}").exists()
    again = begun(ledger, tmp_path / "again", "again")
    for _ in going_on(ledger, again):
        pass
    replay(Sweep(again), tracking_uri(again.root))
    told, replayed = content(tmp_path / "live/mlflow.db", "live"), content(tmp_path / "again/mlflow.db", "again")
    assert told == replayed and len(told) == 4  # the sweep, its base model and two trials


def test_killed_it_is_said_what_to_do(ledger: Ledger, tmp_path: Path) -> None:
    live, said = begun(ledger, tmp_path / "live", "live"), list[str]()
    tracker = Apart(live, "scp-ray track live", said.append)
    tracker.open(live.definition())
    for number, row in enumerate(going_on(ledger, live)):
        tracker.round(row)
        if number == 1:
            os.kill(tracker._process.pid, signal.SIGKILL)
    started = time.monotonic()
    tracker.close()
    assert time.monotonic() - started < 10, "nobody waits for a dead process"
    assert said == ["MLflow may lack something: its process did not end well. Fill it: scp-ray track live"]
    replay(Sweep(live), tracking_uri(live.root))
    assert len(content(tmp_path / "live/mlflow.db", "live")) == 4


DRIVER = """
import sys, time
from pathlib import Path
from scp_ray.ledger import Ledger
from scp_ray.tracking.apart import Apart
if __name__ == "__main__":
    ledger = Ledger(Path(sys.argv[1]))
    tracker = Apart(ledger, "")
    tracker.open(ledger.definition())
    tracker.failed({"id": "x", "label": "x", "reason": "x"})
    print(tracker._process.pid, flush=True)
    time.sleep(600)
"""


def test_it_ends_with_a_driver_that_is_killed(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(begun(ledger, tmp_path / "live", "live").root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        child = Path(f"/proc/{int(driver.stdout.readline())}")
        assert child.exists()
        driver.kill()
    for _ in range(600):
        if not child.exists():
            return
        time.sleep(0.1)
    raise AssertionError("it is still there a minute later")
