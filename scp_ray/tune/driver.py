"""The driver's side of a running sweep: rows are passed on, failures named and kept, signals heeded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.air.execution._internal import actor_manager
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError

from scp_ray.errors import LedgerError, ScpError, SweepHeldError
from scp_ray.ledger import Ledger, Sink
from scp_ray.ledger.lease import Lease, holds
from scp_ray.ledger.records import Row
from scp_ray.tune.bases import NotSnapshotted
from scp_ray.tune.beside import begin, keep_signals
from scp_ray.tune.space import Job, base_failed
from scp_ray.tune.trainable import pack, unpack

LOST_WORKER_RETRIES = 3
# A worker's death is told with its cause by its node; what no node tells of is a node that has gone. SIGTERM comes
# from whoever takes the machine back (Slurm, spot).
_NODE_LOST = ("node has died", "receives a SIGTERM")


def run_beside(work: Callable[[], None], driver: Driver) -> None:
    """``work`` beside the main thread, which keeps the signals until Ray is up; see ``beside``.

    On a signal the driver is told, and the thread waited for.
    """
    thread, ended = begin(work)
    try:
        keep_signals(lambda: driver.ray_is_up.is_set() or ended.done())
        ended.exception()  # waits
    except KeyboardInterrupt:
        driver.interrupted = True
        thread.join()
    error = ended.exception()
    if driver.broken is not None:
        raise driver.broken
    # whoever signals every process of a machine ends Ray's own too, which then has its say
    if error is not None and not (driver.interrupted or isinstance(error, Interrupted)):
        raise error


def memory_kills_are_lost_workers() -> None:
    """Have Tune tell of a worker that Ray's memory monitor has killed as of any other that has died.

    The error that says so is no RayActorError; at what is neither that nor an error of the task, Tune gives up the run.
    """
    actor_manager.RayActorError = (RayActorError, OutOfMemoryError)


class Interrupted(BaseException):
    """Ends Tune's loop without its clean-up, which waits for steps to end: what runs is killed with Ray.

    No Exception: of those that its callbacks raise Tune makes tracebacks of its own.
    """


class Driver(NotSnapshotted, tune.Stopper):  # type: ignore[misc]
    """The driver's side of a run: passes rows on, notes what failed, stops on a signal."""

    def __init__(self, ledger: Ledger, lease: Lease, sinks: Sequence[Sink], jobs: dict[str, Job], rerun: str) -> None:
        self._ledger, self._lease, self._sinks, self._rerun = ledger, lease, sinks, rerun
        self.jobs = jobs  # by id; a search adds to them
        self.finished: set[str] = set()
        self.failures: dict[str, dict[str, Any]] = {}  # of this run, by job
        self.judge: Callable[[str, Row], Row | None] | None = None  # of a search that stops runs early
        self.ray_is_up = threading.Event()
        self.interrupted = False  # by a signal
        self.broken: ScpError | None = None  # why failures, or a search's course, can no longer be kept
        self._deaths: dict[str, tuple[str, int]] = {}  # of a job's workers: how far it was, how often there

    def run(self, work: Callable[[], None]) -> None:
        """Do ``work`` beside the main thread. Raises SweepHeldError where another driver has the sweep by its end."""
        try:
            run_beside(work, self)
        except LedgerError:
            if self._ledger.token is None or holds(self._ledger.driver, self._ledger.token):
                raise
            self._lease.lost = True
        if self._lease.lost:
            raise SweepHeldError(f"another driver has taken {self._ledger.root} over while this one was silent.")

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """A worker has committed a row, or given up; returns whether its run is stopped.

        Tune asks before anybody else hears of the result, and before the next round starts.
        """
        stopped = False
        if self.judge is not None and "row" in result and not result["done"]:
            with self.guarded():
                last = self.judge(result["job"], unpack(result["row"]))
            if last is not None:
                stopped, result = True, result | {"row": pack(last), "done": True}
        self._heard(result)
        return stopped

    def stop_all(self) -> bool:
        """Asked by Tune between events."""
        self.check()
        return False

    def check(self) -> None:
        """Raises Interrupted after a signal, or where the sweep is another driver's."""
        if self.interrupted or self._lease.lost:
            raise Interrupted

    def _heard(self, result: dict[str, Any]) -> None:
        if "failed" in result:
            self._failed(result["job"], result["failed"])
        if "row" in result:
            row = unpack(result["row"])
            for sink in self._sinks:
                sink.round(row)
            if result["done"]:
                self.finished.add(result["job"])

    def begin(self, job: Job) -> None:
        """A job that a search has added."""
        self.jobs[job.id] = job
        self._ledger.forget_failure(job.id)

    def give_up(self, job: Job, base_id: str) -> None:
        """A trial whose base model failed."""
        self._failed(job.id, base_failed(job.label, base_id, self.jobs[base_id].label))

    def lost(self, job_id: str, error: BaseException | None) -> bool:
        """A worker that died, or met a broken disk. Returns whether its job is to be tried again.

        It is, as long as it gets further each time, and a few times where it does not. The loss of a node is nobody's
        fault and does not count.
        """
        if not _node_lost(error):
            before, deaths = self._deaths.get(job_id, ("", 0))
            try:
                reached = self._ledger.reached(job_id)
            except LedgerError:  # the disk or the store that the worker has met
                reached = before
            deaths = deaths + 1 if reached == before else 1
            self._deaths[job_id] = (reached, deaths)
            if deaths > LOST_WORKER_RETRIES:
                self._given_up(job_id, error)
                return False
        return True

    def _given_up(self, job_id: str, error: BaseException | None) -> None:
        reason = f"its worker {_what_happened(error)}, {LOST_WORKER_RETRIES + 1} times without getting further."
        label = self.jobs[job_id].label
        self._failed(job_id, {"label": label, "kind": "WorkerLost", "reason": reason, "traceback": str(error)})

    def _failed(self, job_id: str, failure: dict[str, Any]) -> None:
        if self._lease.lost:
            return  # the sweep is another driver's
        failure = failure | {"rerun": self._rerun}
        self.failures[job_id] = failure
        with self.guarded():
            self._ledger.record_failure(job_id, failure)
        for sink in self._sinks:
            sink.failed({"id": job_id} | failure)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Around what Tune calls: an error of ours ends the run and is told as what it is."""
        try:
            yield
        except ScpError as error:
            self.broken = error
            raise Interrupted from error


def _what_happened(error: BaseException | None) -> str:
    cause, lines = getattr(error, "cause", None), [line for line in str(error).splitlines() if line.strip()]
    if cause:
        return f"met {type(cause).__name__}: {cause}"
    if any("creation task" in line for line in lines):
        return f"could not start ({lines[-1].strip()})"
    return "died (the machine's memory is the usual cause: give a trial more of it, or run fewer side by side)"


def _node_lost(error: BaseException | None) -> bool:
    if isinstance(error, ActorUnavailableError):
        return True
    return isinstance(error, RayActorError) and (error.preempted or any(text in str(error) for text in _NODE_LOST))
