"""A tracker that fails or hangs does not reach the sweep; the console says what it should."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest
from miniature import SPACE, TRIAL

from scp_ray.config import SweepConfig
from scp_ray.ledger import Ledger
from scp_ray.tracking import background
from scp_ray.tracking.background import Background
from scp_ray.tune.progress import Console, duration
from scp_ray.tune.space import Plan, plan_jobs


class Notebook:
    """A sink that writes down what it hears, and fails or waits when told to."""

    def __init__(self, fail_at: str = "", wait: threading.Event | None = None) -> None:
        self.heard: list[Any] = []
        self._fail_at, self._wait = fail_at, wait

    def _hear(self, what: str, value: Any = None) -> None:
        if self._wait:
            self._wait.wait(30)
        if what == self._fail_at:
            raise ConnectionError("nobody answers")
        self.heard.append((what, value))

    def open(self, sweep: dict[str, Any]) -> None:
        self._hear("open", sweep)

    def round(self, row: dict[str, Any]) -> None:
        self._hear("round", row)

    def failed(self, failure: dict[str, Any]) -> None:
        self._hear("failed", failure)

    def close(self) -> None:
        self._hear("close")


def test_everything_is_told_in_order() -> None:
    notebook = Notebook()
    tracker = Background(lambda: notebook, "scp-ray track DIR")
    tracker.open({"name": "x"})
    assert notebook.heard == [("open", {"name": "x"})], "open waits until the tracker is there"
    for number in range(50):
        tracker.round({"round": number})
    tracker.failed({"id": "y"})
    tracker.close()
    told = [("round", {"round": number}) for number in range(50)]
    assert notebook.heard[1:] == [*told, ("failed", {"id": "y"}), ("close", None)]


@pytest.mark.parametrize("moment", ["open", "round", "close"])
def test_a_failing_tracker_is_named_with_the_command_that_fills_it(
    moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Background(lambda: Notebook(fail_at=moment), "scp-ray track DIR")
    tracker.open({})
    tracker.round({})
    tracker.close()
    said = capsys.readouterr().err
    assert said.count("tracking stopped: ConnectionError: nobody answers") == 1
    assert "scp-ray track DIR" in said


def test_a_hanging_tracker_is_left_behind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(background, "OPEN_S", 0.05)
    monkeypatch.setattr(background, "FLUSH_S", 0.05)
    release = threading.Event()
    tracker = Background(lambda: Notebook(wait=release), "scp-ray track DIR")
    tracker.open({})
    tracker.close()
    assert "has not answered" in capsys.readouterr().err
    release.set()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_jobs(SweepConfig.from_dict(SPACE | {"trial": TRIAL}).resolved_arms(), Ledger(tmp_path))


def base_row(plan: Plan, accuracy: float) -> dict[str, Any]:
    base = next(job for job in plan.to_do if job.trial is None)
    return {
        "trial_id": "",
        "base_id": base.id,
        "round": 0,
        "from_base": False,
        "num_classes": 4,
        "val_n": 400,
        "val_balanced_accuracy": accuracy,
        "val_f1": accuracy,
        "val_eodd": 0.1,
    }


# Four classes, 400 images: guessing gives 0.25, and two standard errors of it are 2 sqrt(0.25 * 0.75 / 400) = 0.043.
@pytest.mark.parametrize(("accuracy", "warned"), [(0.25, True), (0.29, True), (0.30, False), (0.7, False)])
def test_a_base_model_at_chance_is_pointed_out(plan: Plan, accuracy: float, warned: bool) -> None:
    stream = io.StringIO()
    Console(plan, stream).round(base_row(plan, accuracy))
    assert ("is at chance" in stream.getvalue()) is warned


def test_the_last_line_counts_jobs_and_failures(plan: Plan) -> None:
    stream = io.StringIO()
    console = Console(plan, stream)
    console.round(base_row(plan, 0.7))
    trial = next(job for job in plan.to_do if job.trial is not None)
    console.failed({"id": trial.id, "label": trial.label, "reason": "the loss became nan"})
    console.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "failed: all, seed=0: the loss became nan"
    assert lines[1].startswith("1 of 2 jobs done, 1 failed after ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5340, "89 min"), (5399, "1 h 30 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
