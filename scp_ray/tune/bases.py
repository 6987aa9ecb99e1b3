"""The queue of a sweep: base models first, each trained once; a trial is handed out when its bases are there.

Trials that wait are not yet known to Tune, so they hold neither CPU nor GPU.
"""

from __future__ import annotations

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
    """A Tune searcher that suggests jobs instead of searching."""

    def __init__(
        self, jobs: Iterable[Job], *, finished: Callable[[str], bool], give_up: Callable[[Job, str], None]
    ) -> None:
        super().__init__()
        self._waiting = list(jobs)
        self._bases_to_come = {job.id for job in self._waiting if job.trial is None}
        self._running: dict[str, str] = {}  # Tune's id of a trial -> job id
        self._finished = finished
        self._give_up = give_up

    def suggest(self, trial_id: str) -> Any:
        """The next job whose bases are there; None while all have to wait; FINISHED at the end."""
        for job in self._waiting:
            if not self._bases_to_come.intersection(job.requires):
                self._waiting.remove(job)
                self._running[trial_id] = job.id
                return {"job": job.id}
        return None if self._waiting else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A base is there, or it never will be: then what needs it is given up."""
        job_id = self._running.pop(trial_id, None)
        if job_id not in self._bases_to_come:
            return
        if self._finished(job_id):
            self._bases_to_come.discard(job_id)
            return
        lost = [job for job in self._waiting if job_id in job.requires]
        self._waiting = [job for job in self._waiting if job not in lost]
        for job in lost:
            self._give_up(job, job_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger knows what is done, and Tune's own snapshots are not used."""

    def restore(self, checkpoint_path: str) -> None:
        """See ``save``."""
