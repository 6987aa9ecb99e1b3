"""Which loss of a worker uses up a job's tries, and what the queue does with the job. The losses are Ray's own errors,
as test_signals.py and test_cluster.py meet them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from miniature import SPACE
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError
from ray.tune.search import Searcher

from scp_ray.config import SweepConfig
from scp_ray.ledger import Ledger
from scp_ray.ledger.lease import Lease
from scp_ray.tune.bases import JobQueue
from scp_ray.tune.driver import Driver
from scp_ray.tune.space import Job, plan_jobs

KILLED = ActorDiedError()
NODE_GONE = ActorUnavailableError("the actor is unavailable: Socket closed", None)
ENDED = RayActorError(error_msg="Worker exits with an exit code 1. The process receives a SIGTERM.")


@pytest.fixture
def jobs() -> tuple[Job, Job]:
    """A base model and the trial that needs it."""
    arms = SweepConfig.from_dict(SPACE).resolved_arms()
    base, trial = plan_jobs(arms, Ledger("nowhere")).to_do
    return base, trial


@pytest.fixture
def driver(tmp_path: Path, jobs: tuple[Job, Job]) -> Iterator[Driver]:
    with Lease(tmp_path / "driver.json") as lease:
        ledger = Ledger(tmp_path, token=lease.token)
        yield Driver(ledger, lease, [], {job.id: job for job in jobs}, "the same command")


def test_the_fourth_death_at_the_same_place_is_the_last(driver: Driver, jobs: tuple[Job, Job], tmp_path: Path) -> None:
    trial = jobs[1].id
    assert [driver.lost(trial, KILLED) for _ in range(4)] == [True, True, True, False]
    failure = Ledger(tmp_path).failures()[trial]
    assert failure["kind"] == "WorkerLost"
    assert "4 times without getting further" in failure["reason"]
    assert driver.lost(jobs[0].id, KILLED), "each job has tries of its own"


def test_a_job_that_gets_further_has_all_its_tries_again(driver: Driver, jobs: tuple[Job, Job], tmp_path: Path) -> None:
    trial = jobs[1].id
    for epoch in range(5):
        assert [driver.lost(trial, KILLED) for _ in range(3)] == [True, True, True]
        Ledger(tmp_path).states(trial).save({"epoch": epoch, "weight": torch.zeros(2)})
    assert [driver.lost(trial, KILLED) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("loss", [NODE_GONE, ENDED], ids=["its node is gone", "it was sent SIGTERM"])
def test_who_is_not_to_blame_is_always_tried_again(driver: Driver, jobs: tuple[Job, Job], loss: Exception) -> None:
    trial = jobs[1].id
    assert [driver.lost(trial, KILLED) for _ in range(3)] == [True, True, True]
    assert all(driver.lost(trial, loss) for _ in range(20))
    assert not driver.lost(trial, KILLED), "what was used up before stays used up"


def test_a_lost_job_goes_out_again_before_the_end(jobs: tuple[Job, Job]) -> None:
    base, trial = jobs
    done: set[str] = set()
    queue = JobQueue(jobs, finished=done.__contains__, give_up=lambda job, base_id: None)
    assert queue.suggest("1") == {"job": base.id}
    assert queue.suggest("2") is None, "the trial waits for its base model"
    queue.on_trial_complete("1", error=True)
    queue.lost(base.id, again=True)
    assert queue.suggest("3") == {"job": base.id}
    done.add(base.id)
    queue.on_trial_complete("3", {})
    assert queue.suggest("4") == {"job": trial.id}
    assert queue.suggest("5") is None, "it may come back"
    queue.on_trial_complete("4", {})
    assert queue.suggest("6") == Searcher.FINISHED


def test_a_base_model_that_is_lost_for_good_takes_its_trials_along(jobs: tuple[Job, Job]) -> None:
    base, trial = jobs
    given_up: list[tuple[str, str]] = []
    queue = JobQueue(jobs, finished=lambda _: False, give_up=lambda job, base_id: given_up.append((job.id, base_id)))
    queue.suggest("1")
    queue.on_trial_complete("1", error=True)
    queue.lost(base.id, again=False)
    assert given_up == [(trial.id, base.id)]
    assert queue.suggest("2") == Searcher.FINISHED
