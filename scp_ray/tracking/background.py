"""A Sink that never makes the sweep wait: a thread brings a tracker to what the ledger says.

What is kept here are the ids of trials and base models of which the tracker does not know all; the rows are read from
the ledger when their turn comes. So a tracker that is down for hours costs no memory, and once it answers again it is
told everything it has missed.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from scp_ray.ledger.records import Records, Row
from scp_ray.tracking.content import job_ids, recorded
from scp_ray.tracking.secrets import shown

# How long ``close`` waits: well below a twentieth of a sweep, enough for a database that keeps up even on a busy
# machine, and never so long that a sweep stopped by a signal is late.
CLOSE_SHARE, CLOSE_LEAST_S, CLOSE_MOST_S = 0.03, 2.0, 5.0
FASTER = 2.0  # an idle machine tells what is left, a busy one was the measure
LONGEST_PAUSE_S = 60.0


def patience(took_s: float) -> float:
    """How long the end of a sweep waits for its tracker: 3 % of what the sweep took, but 2 to 5 s."""
    return min(max(CLOSE_SHARE * took_s, CLOSE_LEAST_S), CLOSE_MOST_S)


class Tracker(Protocol):
    """What the thread talks to; see ``scp_ray.tracking.mlflow``. Any call may raise or hang."""

    def open(self, sweep: dict[str, Any], *, running: bool) -> None:
        """Connect."""

    def know(self, sweep: dict[str, Any]) -> None:
        """``sweep`` has grown since ``open``."""

    def show(
        self, job_id: str, rows: Sequence[Row], failure: Mapping[str, Any] | None = None, *, running: bool
    ) -> bool:
        """All that is known of a trial or base model; returns whether it has ended."""

    def close(self) -> None:
        """The sweep has ended."""


class Background:
    """Tells a tracker in a thread. After an error it is tried again, ever less often.

    Args:
        make: makes the tracker, in the thread and again after each error.
        replay_command: what a person runs to tell the tracker later what it has missed.
        say: where a line for the person goes.
    """

    def __init__(
        self,
        make: Callable[[], Tracker],
        ledger: Records,
        replay_command: str,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._make, self._ledger, self._replay = make, ledger, replay_command
        self._say = say or (lambda line: print(line, file=sys.stderr))
        self._news = threading.Condition()
        self._stale: dict[str, None] = {}  # in the order in which they are told
        self._going_on: set[str] = set()  # in hand, or told as running
        self._failures: dict[str, dict[str, Any]] = {}
        self._closing = self._given_up = self._warned = self._told = False
        self._showing_since: float | None = None
        self._show_s = 0.0  # how long the last one took
        self._through = threading.Event()  # everything is told, or the last attempt has failed
        self._thread = threading.Thread(target=self._work, name="scp_ray tracker", daemon=True)

    def open(self, sweep: dict[str, Any]) -> None:
        """What the ledger holds by now is told first. Nothing waits: workers never touch the tracker."""
        self._sweep, self._opened_at = sweep, time.monotonic()
        self._failures |= {key: _short(failure) for key, failure in self._ledger.failures().items()}
        self._mark(*job_ids(sweep), *self._failures)
        self._thread.start()

    def grown(self, sweep: dict[str, Any]) -> None:
        """What is told from here on is told of this one."""
        self._sweep = sweep

    def round(self, row: dict[str, Any]) -> None:
        """There is more to tell of its trial or base model."""
        self._mark(row["trial_id"] or row["base_id"])

    def failed(self, failure: dict[str, Any]) -> None:
        """There is a failure to tell."""
        self._failures[failure["id"]] = _short(failure)
        self._mark(failure["id"])

    def close(self, within_s: float | None = None) -> None:
        """Wait for what is pending, so long or ``patience`` of the time since ``open``; say what is missing then.

        What cannot be told by then, as slow as the tracker is, is not waited for.
        """
        within_s = patience(time.monotonic() - self._opened_at) if within_s is None else within_s
        with self._news:
            self._closing = True
            self._news.notify()
            hopeless = self._left_s() > FASTER * within_s
        if not hopeless:
            self._through.wait(within_s)
        with self._news:
            self._given_up = True  # the thread may hang in a request: it takes nothing new, and dies with the process
            missing = len(self._stale.keys() | self._going_on)
        if not self._told:
            what = f"lacks something of {missing} base models and trials" if missing else "knows of no end of the sweep"
            self._say(f"MLflow {what}. Fill it: {self._replay}")

    @property
    def idle(self) -> bool:
        """Whether the tracker knows all there is to know by now, and every run has ended."""
        return not (self._stale or self._going_on)

    def _left_s(self) -> float:
        """How long what is pending, and the last word, take at the pace of the last job or the one in hand."""
        since = self._showing_since  # read once: the thread sets it to None
        in_hand_s = 0.0 if since is None else time.monotonic() - since
        return max(self._show_s, in_hand_s) * (1 + len(self._stale.keys() | self._going_on))

    def _mark(self, *job_ids: str) -> None:
        with self._news:
            self._stale |= dict.fromkeys(job_ids)
            self._news.notify()

    def _work(self) -> None:
        pause_s = 1.0
        while not self._given_up:
            last, tried_at = self._closing, time.monotonic()
            try:
                tracker = self._make()
                self._known = self._sweep
                tracker.open(self._known, running=True)
                self._told = self._tell(tracker)
                self._through.set()
                return
            except Exception as error:  # any tracker, any fault: it may not reach the sweep
                self._warn(error)
            with self._news:
                self._stale |= dict.fromkeys(self._going_on)  # whatever it is when it answers again
                if last or self._given_up:
                    self._through.set()
                    return
                self._news.wait_for(lambda: self._closing, pause_s)
            worked = time.monotonic() - tried_at > 2 * LONGEST_PAUSE_S
            pause_s = 1.0 if worked else min(2 * pause_s, LONGEST_PAUSE_S)

    def _tell(self, tracker: Tracker) -> bool:
        """Until the sweep is closed and everything is told, or ``close`` waits no longer; returns which."""
        while (job_id := self._next()) is not None:
            self._show(tracker, job_id, running=True)
        for job_id in sorted(self._going_on):
            self._show(tracker, job_id, running=False)
        if not self._given_up:
            tracker.close()
        return not self._given_up

    def _next(self) -> str | None:
        with self._news:
            self._news.wait_for(lambda: self._stale or self._closing)
            if self._given_up or not self._stale:
                return None
            job_id = next(iter(self._stale))
            del self._stale[job_id]
            self._going_on.add(job_id)
            return job_id

    def _show(self, tracker: Tracker, job_id: str, *, running: bool) -> None:
        if self._given_up:
            return
        if self._known is not self._sweep:
            self._known = self._sweep
            tracker.know(self._known)
        rows, failure = recorded(self._ledger, job_id), self._failures.get(job_id)
        began = self._showing_since = time.monotonic()
        try:
            ended = tracker.show(job_id, rows, failure, running=running)
        finally:
            self._show_s, self._showing_since = time.monotonic() - began, None
        if ended:
            with self._news:
                self._going_on.discard(job_id)

    def _warn(self, error: Exception) -> None:
        """Once: a tracker that comes and goes is no news, and what it lacks in the end is said by ``close``."""
        if self._warned or self._given_up:
            return
        self._warned = True
        self._say(
            f"warning: MLflow does not take what it is told ({shown(error)}). The sweep goes on and MLflow is tried "
            f"again; what it lacks in the end can be filled in: {self._replay}"
        )


def _short(failure: Mapping[str, Any]) -> dict[str, Any]:
    return {"label": failure["label"], "reason": failure["reason"]}
