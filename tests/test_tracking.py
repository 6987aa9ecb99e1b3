"""A tracker that fails or hangs does not reach the sweep; the console says what it should."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest
from miniature import SPACE, TRIAL
from waiting import wait_for

from scp_ray.config import SweepConfig
from scp_ray.ledger import Ledger
from scp_ray.ledger.files import replace_rounds
from scp_ray.ledger.rows import rows_table
from scp_ray.tracking import background
from scp_ray.tracking.background import Background
from scp_ray.tune.progress import Console, duration
from scp_ray.tune.space import Plan, plan_jobs


class Notebook:
    """A tracker that writes down what it is shown, and fails or waits when told to."""

    def __init__(self, heard: list[Any], fail_at: str = "", wait: threading.Event | None = None) -> None:
        self.heard = heard
        self._fail_at, self._wait = fail_at, wait

    def _hear(self, what: str, value: Any = None) -> None:
        if self._wait:
            self._wait.wait(60)
        if what == self._fail_at:
            raise ConnectionError("nobody answers")
        self.heard.append((what, value))

    def open(self, sweep: dict[str, Any], *, running: bool) -> None:
        self._hear("open", sweep["name"])

    def show(self, job_id: str, rows: Any, failure: Any = None, *, running: bool) -> bool:
        self._hear("show", (job_id, [row["round"] for row in rows], failure and failure["reason"], running))
        return bool(failure) or len(rows) == 3

    def close(self) -> None:
        self._hear("close")


DEFINITION: dict[str, Any] = {"name": "x", "arms": []}


def commit(ledger: Ledger, trial_id: str, index: int) -> dict[str, Any]:
    row = {"trial_id": trial_id, "base_id": "b", "round": index, "stopped": False}
    replace_rounds(ledger.table_path("rounds", trial_id), rows_table([row]), [index])
    return row


def test_a_tracker_is_shown_what_the_ledger_holds(tmp_path: Path) -> None:
    """Each job as often as there is news of it; those that go on are told as killed when the sweep is closed."""
    ledger, heard, said = Ledger(tmp_path), list[Any](), list[str]()
    commit(ledger, "before", 0)
    tracker = Background(lambda: Notebook(heard), ledger, "scp-ray track DIR", said.append)
    tracker.open(DEFINITION | {"arms": [{"trials": [{"trial_id": "before", "base_id": "b", "vanilla_id": "b"}]}]})
    wait_for(lambda: len(heard) == 3, within_s=30)
    assert heard == [("open", "x"), ("show", ("b", [], None, True)), ("show", ("before", [0], None, True))]
    tracker.round(commit(ledger, "a", 0))
    wait_for(lambda: heard[-1] == ("show", ("a", [0], None, True)), within_s=30)
    tracker.failed({"id": "c", "label": "c", "reason": "the loss became nan", "traceback": "..."})
    wait_for(lambda: heard[-1] == ("show", ("c", [], "the loss became nan", True)), within_s=30)
    for index in (1, 2):
        tracker.round(commit(ledger, "a", index))
    wait_for(lambda: heard[-1] == ("show", ("a", [0, 1, 2], None, True)), within_s=30)
    tracker.close()
    killed = [("show", (job, rows, None, False)) for job, rows in (("b", []), ("before", [0]))]
    assert heard[-3:] == [*killed, ("close", None)]
    assert said == []


@pytest.mark.parametrize("moment", ["open", "show", "close"])
def test_a_failing_tracker_is_named_with_the_command_that_fills_it(tmp_path: Path, moment: str) -> None:
    said = list[str]()
    tracker = Background(lambda: Notebook([], fail_at=moment), Ledger(tmp_path), "scp-ray track DIR", said.append)
    tracker.open(DEFINITION)
    for index in range(3):
        tracker.round(commit(Ledger(tmp_path), "a", index))
    tracker.close()
    assert len(said) == 2, "one warning, and what is missing in the end"
    assert "(ConnectionError: nobody answers)" in said[0]
    what = "knows of no end of the sweep" if moment == "close" else "lacks something of 1 base models and trials"
    assert said[1] == f"MLflow {what}. Fill it: scp-ray track DIR"


def test_a_tracker_that_comes_back_is_told_what_it_missed(tmp_path: Path) -> None:
    """The first two connections break; the third is shown everything, that which was told as running before too."""
    ledger, heard, said, made = Ledger(tmp_path), list[Any](), list[str](), list[Notebook]()

    def make() -> Notebook:
        made.append(Notebook(heard, fail_at=("show", "open", "")[min(len(made), 2)]))
        return made[-1]

    tracker = Background(make, ledger, "scp-ray track DIR", said.append)
    tracker.open(DEFINITION)
    tracker.round(commit(ledger, "a", 0))
    wait_for(lambda: len(made) == 2, within_s=30)
    tracker.round(commit(ledger, "b", 0))
    tracker.close()
    wait_for(lambda: ("close", None) in heard, within_s=30)
    told = [value for what, value in heard if what == "show"]
    assert {(job, tuple(rows)) for job, rows, *_ in told} == {("a", (0,)), ("b", (0,))}
    assert [value for value in told if not value[3]] == [("a", [0], None, False), ("b", [0], None, False)]
    assert len(said) == 1


def test_a_hanging_tracker_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call waits for it, and what it is told after it was given up is nothing."""
    monkeypatch.setattr(background, "CLOSE_LEAST_S", 0.05)
    release, heard, said = threading.Event(), list[Any](), list[str]()
    tracker = Background(lambda: Notebook(heard, wait=release), Ledger(tmp_path), "scp-ray track DIR", said.append)
    tracker.open(DEFINITION)
    tracker.round(commit(Ledger(tmp_path), "a", 0))
    tracker.close()
    assert said == ["MLflow lacks something of 1 base models and trials. Fill it: scp-ray track DIR"]
    assert heard == []
    release.set()
    tracker._thread.join()
    assert heard == [("open", "x")]


@pytest.mark.parametrize(("hours", "waits_s"), [(0, 2.0), (100 / 3600, 3.0), (10, 5.0)])
def test_how_long_the_end_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float, waits_s: float) -> None:
    """3 % of the sweep's time, at least 2 s and at most 5 s."""
    tracker, waited = Background(lambda: Notebook([]), Ledger(tmp_path), "", lambda line: None), list[float]()
    monkeypatch.setattr(tracker._through, "wait", waited.append)
    tracker.open(DEFINITION)
    tracker._opened_at -= 3600 * hours
    tracker.close()
    assert waited == [pytest.approx(waits_s, abs=0.2)]


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
