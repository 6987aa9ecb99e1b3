"""The queue of a search: jobs are made when a worker is free, so that each knows what those before it gave."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from scp_ray.tune.bases import JobQueue
from scp_ray.tune.driver import Driver
from scp_ray.tune.search import Search
from scp_ray.tune.space import Job

SLOTS_S = 5.0  # how long the size of the cluster is taken for known


class SearchQueue(JobQueue):
    """Suggests what is waiting, and asks the search where nothing is.

    Args:
        slots: how many trials the cluster holds side by side. Tune asks for one more than it can run; answered too
            early, a point would be chosen without the results of those that still run.
    """

    def __init__(
        self, search: Search, driver: Driver, *, finished: Callable[[str], bool], slots: Callable[[], int]
    ) -> None:
        super().__init__([], finished=finished, give_up=self._given_up)
        self._search, self._driver, self._slots = search, driver, slots
        self._counted_at, self._count = -SLOTS_S, 0
        self._trials: set[str] = set()  # asked for and not ended

    def suggest(self, trial_id: str) -> Any:
        """The next job; None while there may be one later; FINISHED at the end."""
        with self._driver.guarded():
            self._drop_unwanted()
            self._ask()
        if not self._ready:
            over = self._search.campaign.over and not self._running and not self._missing
            return Searcher.FINISHED if over else None
        found = super().suggest(trial_id)
        job = self._jobs[self._places[found["job"]]]
        return found | {"base": job.trial is None, "packed": pickle.dumps(job)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A job has ended by itself, done or failed."""
        job_id = "" if error else self._running[trial_id]
        super().on_trial_complete(trial_id, result, error)
        if job_id in self._trials:
            self._trials.discard(job_id)
            with self._driver.guarded():
                self._tell(job_id)

    def lost(self, job_id: str, *, again: bool) -> None:
        """A job's worker was lost."""
        super().lost(job_id, again=again)
        if not again and job_id in self._trials:
            self._trials.discard(job_id)
            with self._driver.guarded():
                self._tell(job_id)

    def _ask(self) -> None:
        while not self._ready and len(self._trials) < self._free_slots() and (jobs := self._search.more()):
            new = [job for job in jobs if job.id not in self._places]
            for job in new:
                self._driver.begin(job)
            trial = jobs[-1]
            self._trials.add(trial.id)
            if lost := next((base for base in trial.requires if base in self._driver.failures), ""):
                self._given_up(trial, lost)  # this run has not been able to train it
            else:
                self.add(new)

    def _drop_unwanted(self) -> None:
        """Seeds of a configuration that has failed meanwhile need not be run."""
        for place in [*self._ready, *self._missing]:
            job_id = self._jobs[place].id
            if job_id in self._trials and not self._search.wanted(job_id):
                self._trials.discard(job_id)
                self._missing.pop(place, None)
                self._ready = sorted(each for each in self._ready if each != place)

    def _given_up(self, job: Job, base_id: str) -> None:
        self._driver.give_up(job, base_id)
        if job.id in self._trials:
            self._trials.discard(job.id)
            with self._driver.guarded():
                self._tell(job.id)

    def _tell(self, job_id: str) -> None:
        failure = self._driver.failures.get(job_id)
        if failure is None:
            self._search.ended(job_id)
        else:
            self._search.failed(job_id, failure)

    def _free_slots(self) -> int:
        if time.monotonic() - self._counted_at >= SLOTS_S:
            self._counted_at, self._count = time.monotonic(), self._slots()
        return self._count
