"""The queue of a sweep: base models first, each trained once; a trial is handed out when its bases are there.

Trials that wait are not yet known to Tune, so they hold neither CPU nor GPU.
"""

from __future__ import annotations

import heapq
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

    Tune asks it again and again, also while nothing is ready: what is ready lies in a heap by place in the plan, and
    a base that is done looks at none but the jobs that need it. A job whose worker was lost comes back here, and goes
    out as another of Tune's trials.
    """

    def __init__(
        self, jobs: Iterable[Job], *, finished: Callable[[str], bool], give_up: Callable[[Job, str], None]
    ) -> None:
        super().__init__()
        self._jobs: list[Job] = []
        self._places: dict[str, int] = {}
        self._ready: list[int] = []  # places in the plan, the earliest first
        self._missing: dict[int, set[str]] = {}  # place of a job that waits -> bases that it waits for
        self._waiting_for: dict[str, list[int]] = {}  # base that is not there yet -> places of jobs that need it
        self._running: dict[str, str] = {}  # Tune's id of a trial -> job id
        self._finished = finished
        self._give_up = give_up
        self.add(jobs)

    def add(self, jobs: Iterable[Job]) -> None:
        """More jobs, each base before what needs it; what is known already stays where it is."""
        for job in jobs:
            if job.id in self._places:
                continue
            place = self._places[job.id] = len(self._jobs)
            self._jobs.append(job)
            if job.trial is None:
                self._waiting_for[job.id] = []
            missing = {base for base in job.requires if base in self._waiting_for}
            for base in missing:
                self._waiting_for[base].append(place)
            if missing:
                self._missing[place] = missing
            else:
                heapq.heappush(self._ready, place)

    def suggest(self, trial_id: str) -> Any:
        """The next job whose bases are there; None while one may still come; FINISHED at the end."""
        if not self._ready:
            return None if self._missing or self._running else Searcher.FINISHED
        job = self._jobs[heapq.heappop(self._ready)]
        self._running[trial_id] = job.id
        return {"job": job.id}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A job has ended by itself, done or failed; of lost workers the driver speaks (``lost``)."""
        if error:
            return
        job_id = self._running.pop(trial_id)
        if job_id not in self._waiting_for:
            return
        if not self._finished(job_id):
            self._lose(job_id)
            return
        for place in self._waiting_for.pop(job_id):
            missing = self._missing.get(place, set())  # not there: given up with another base
            missing.discard(job_id)
            if place in self._missing and not missing:
                del self._missing[place]
                heapq.heappush(self._ready, place)

    def lost(self, job_id: str, *, again: bool) -> None:
        """A job's worker was lost: the job is handed out anew, or never again."""
        self._running = {key: running for key, running in self._running.items() if running != job_id}
        if again:
            heapq.heappush(self._ready, self._places[job_id])
        elif job_id in self._waiting_for:
            self._lose(job_id)

    def _lose(self, base_id: str) -> None:
        """Give up what needs a base that never will be, and what needs that."""
        for place in self._waiting_for.pop(base_id):
            if self._missing.pop(place, None) is not None:
                job = self._jobs[place]
                self._give_up(job, base_id)
                if job.id in self._waiting_for:
                    self._lose(job.id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger knows what is done, and Tune's own snapshots are not used."""

    def restore(self, checkpoint_path: str) -> None:
        """See ``save``."""
