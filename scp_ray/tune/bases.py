"""The queue of a sweep: base models first, each trained once; a trial is handed out when its bases are there.

Trials that wait are not yet known to Tune, so they hold neither CPU nor GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ray.tune.search import Searcher

from scp_ray.tune.space import Job


class NotSnapshotted:
    """Tune pickles what a Tuner is given; what belongs to this driver alone leaves itself out.

    Tune's snapshots are never restored: the ledger knows what is done.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}


class JobQueue(NotSnapshotted, Searcher):  # type: ignore[misc]
    """A Tune searcher that suggests jobs instead of searching.

    A job whose worker was lost comes back here, and goes out as another of Tune's trials.
    """

    def __init__(
        self, jobs: Iterable[Job], *, finished: Callable[[str], bool], give_up: Callable[[Job, str], None]
    ) -> None:
        super().__init__()
        self._jobs = {job.id: job for job in jobs}
        self._missing = {job.id for job in self._jobs.values() if job.trial is None}  # bases that are not there yet
        self._ready: deque[str] = deque()
        self._waiting: dict[str, Job] = {}  # for a base
        self._running: dict[str, str] = {}  # Tune's id of a trial -> job id
        self._finished = finished
        self._give_up = give_up
        for job in self._jobs.values():
            self._put(job)

    def _put(self, job: Job) -> None:
        if self._missing.intersection(job.requires):
            self._waiting[job.id] = job
        else:
            self._ready.append(job.id)

    def suggest(self, trial_id: str) -> Any:
        """The next job whose bases are there; None while one may still come; FINISHED at the end."""
        if self._ready:
            self._running[trial_id] = self._ready.popleft()
            return {"job": self._running[trial_id]}
        return None if self._waiting or self._running else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A job has ended by itself, done or failed; of lost workers the driver speaks (``lost``)."""
        if error:
            return
        job_id = self._running.pop(trial_id)
        if job_id not in self._missing:
            return
        if not self._finished(job_id):
            self._without(job_id)
            return
        self._missing.discard(job_id)
        for job in list(self._waiting.values()):
            if job_id in job.requires:
                del self._waiting[job.id]
                self._put(job)

    def lost(self, job_id: str, *, again: bool) -> None:
        """A job's worker was lost: the job is the next to be handed out, or never again."""
        self._running = {key: running for key, running in self._running.items() if running != job_id}
        if again:
            self._ready.appendleft(job_id)
        elif job_id in self._missing:
            self._without(job_id)

    def _without(self, base_id: str) -> None:
        """A base never will be there: what needs it is given up."""
        for job in list(self._waiting.values()):
            if base_id in job.requires:
                del self._waiting[job.id]
                self._give_up(job, base_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger knows what is done, and Tune's own snapshots are not used."""

    def restore(self, checkpoint_path: str) -> None:
        """See ``save``."""
