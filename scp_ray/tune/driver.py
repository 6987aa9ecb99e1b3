"""The driver's side of a running sweep: rows are passed on, failures named and kept, signals heeded."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ray import tune

from scp_ray.ledger import Ledger, Sink
from scp_ray.ledger.lease import Lease
from scp_ray.tune.bases import NotSnapshotted
from scp_ray.tune.space import Job

LOST_WORKER_RETRIES = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_go_to(driver: Driver) -> Iterator[None]:
    """The driver's handlers inside the block, those from before after it."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    driver.listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Driver(NotSnapshotted, tune.Stopper):  # type: ignore[misc]
    """The driver's side of a run: passes rows on, notes what failed, stops on a signal."""

    def __init__(self, ledger: Ledger, lease: Lease, sinks: Sequence[Sink], jobs: dict[str, Job], rerun: str) -> None:
        self._ledger, self._lease, self._sinks, self._jobs, self._rerun = ledger, lease, sinks, jobs, rerun
        self.finished: set[str] = set()
        self.interrupted = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped from here."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune between events."""
        return self.interrupted or self._lease.lost

    def interrupt(self, number: int, frame: Any) -> None:
        """SIGINT or SIGTERM: end the run; the ledger knows where to go on. A second one ends the process."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def listen(self) -> None:
        """Take the signals: after ray.init and again inside Tune, which put handlers of their own in place."""
        for number in SIGNALS:
            signal.signal(number, self.interrupt)

    def result(self, result: dict[str, Any]) -> None:
        """A worker has committed a row, or given up."""
        if "failed" in result:
            self._failed(result["job"], result["failed"])
        if "row" in result:
            for sink in self._sinks:
                sink.round(result["row"])
            if result["done"]:
                self.finished.add(result["job"])

    def give_up(self, job: Job, base_id: str) -> None:
        """A trial whose base model failed."""
        reason = f"its base model {base_id} failed ({self._jobs[base_id].label})"
        self._failed(job.id, {"label": job.label, "kind": "BaseFailed", "reason": reason, "traceback": ""})

    def lost(self, job_id: str, error: BaseException | None) -> None:
        """A worker that died, or met a broken disk, more often than it is started again."""
        reason = f"its worker {_what_happened(error)}, {LOST_WORKER_RETRIES + 1} times in all."
        label = self._jobs[job_id].label
        self._failed(job_id, {"label": label, "kind": "WorkerLost", "reason": reason, "traceback": str(error)})

    def _failed(self, job_id: str, failure: dict[str, Any]) -> None:
        if self._lease.lost:
            return  # the sweep is another driver's
        failure = failure | {"rerun": self._rerun}
        self._ledger.record_failure(job_id, failure)
        for sink in self._sinks:
            sink.failed({"id": job_id} | failure)

    def callback(self) -> tune.Callback:
        """What Tune calls on this driver."""
        return DriverCallback(self)


def _what_happened(error: BaseException | None) -> str:
    cause, lines = getattr(error, "cause", None), [line for line in str(error).splitlines() if line.strip()]
    if cause:
        return f"met {type(cause).__name__}: {cause}"
    if any("creation task" in line for line in lines):
        return f"could not start ({lines[-1].strip()})"
    return "died (the machine's memory is the usual cause: give a trial more of it, or run fewer side by side)"


class DriverCallback(NotSnapshotted, tune.Callback):  # type: ignore[misc]
    """Hands Tune's events on."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def setup(self, **_: Any) -> None:
        """Tune is about to start: its own signal handlers are in place by now."""
        self._driver.listen()

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A worker reports."""
        self._driver.result(result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """A worker is given up."""
        self._driver.lost(trial.config["job"], trial.get_error())
