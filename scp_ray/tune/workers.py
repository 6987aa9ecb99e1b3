"""Tune's scheduler of a sweep: which waiting job a free worker takes, and word of workers that are lost."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from scp_ray.tune.bases import JobQueue, NotSnapshotted
from scp_ray.tune.driver import Driver


class Workers(NotSnapshotted, FIFOScheduler):  # type: ignore[misc]
    """Gives free workers to jobs as they come, and hears of workers that are lost.

    A callback would hear of them too, but for whoever gives it one Tune imports every tracker that it knows.
    """

    def __init__(self, driver: Driver, queue: JobQueue) -> None:
        super().__init__()
        self._driver, self._queue = driver, queue
        self._waiting: list[Trial] = []

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A job that waits for a worker."""
        self._waiting.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The first that waits, has no worker on its way and fits a free one, or else the first that has none.

        To a job with a worker on its way Tune would give a free one and kill that which starts, so that short trials
        on one worker keep every other from ever starting. It still does where all that waits has one on its way, and
        where two workers become free in one moment.
        """
        self._waiting = [trial for trial in self._waiting if trial.status == Trial.PENDING]
        controller = tune_controller._tune_controller  # no public word of Tune's says whose worker has been asked for
        found = None
        for trial in self._waiting:
            worker = controller._trial_to_actor.get(trial)
            if worker is not None and controller._actor_manager.is_actor_started(worker):
                continue
            if controller._actor_cache.has_cached_object(trial.placement_group_factory):
                return trial
            found = found or trial
        return found

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """A worker is lost."""
        job_id = trial.config["job"]
        self._queue.lost(job_id, again=self._driver.lost(job_id, _error_of(trial)))


def _error_of(trial: Trial) -> BaseException | None:
    """What ended its worker: Tune writes it on this machine at once (``get_error`` looks where it is copied later)."""
    path = trial.pickled_error_file
    if path is None:
        return None
    try:
        error: BaseException = pickle.loads(Path(path).read_bytes())
    except Exception as unreadable:  # an error of a library that cannot be put together again here
        return unreadable
    return error
