"""What a trial, a round and a result cost those parts that all trials of a sweep share; used by ``scale``."""

from __future__ import annotations

import io
import logging
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import scp_ray.tune  # noqa: F401  before Ray: it sets what Ray reads when it is imported

# isort: split
import ray
import torch
from ray import tune

from scp_ray.config import SweepConfig
from scp_ray.ledger import Ledger
from scp_ray.ledger.definition import define
from scp_ray.ledger.lease import Lease
from scp_ray.ledger.rows import base_row, copied_row, round_row
from scp_ray.tracking.mlflow import MLflowRuns
from scp_ray.trial import BaseModel, Result, run_trial, train_base
from scp_ray.tune.bases import JobQueue, NotSnapshotted
from scp_ray.tune.driver import Driver
from scp_ray.tune.local import loopback_only
from scp_ray.tune.progress import Console
from scp_ray.tune.space import plan_jobs
from scp_ray.tune.trainable import pack
from scp_ray.tune.workers import Workers

TRIAL: dict[str, Any] = {
    "dataset": {"name": "synthetic", "image_size": 32, "train": 96, "val": 246, "test": 246},
    "backbone": "tiny",
    "pr_c": 0.1,
    "rounds": 1,
    "train": {"epochs": 1, "batch_size": 32, "lr": 0.02, "augment": "none"},
    "fine_tune": {"epochs": 1, "batch_size": 32, "lr": 0.01, "augment": "none"},
}


@dataclass(frozen=True)
class Costs:
    """Seconds of wall time, unless the name says otherwise."""

    plan_s: float  # of the driver, for each trial of the sweep before anything starts
    replan_s: float  # of the driver, for each finished trial when the command is run again
    worker_s: float  # from asking for a worker to its first step
    trial_s: float  # of the driver, to hand out a trial and to end it
    result_s: float  # of the driver, to take a result
    queue_s: float  # of that: our queue, for a trial
    sinks_s: float  # of that: our own work, for a result
    track_trial_s: float  # of the tracker's thread, SQLite on a local disk
    track_round_s: float
    track_end_s: float  # for each run, when the sweep ends
    retell_s: float  # for each run with two rounds, when the command is run again
    commit_s: float  # of a worker, on a local disk: predictions, channels, row
    commit_mb: float
    order_mb: float  # what each worker is sent once
    order_s: float  # of a worker, to unpack it


def measured(sample: int, trials: int) -> Costs:
    """Every cost, on this machine. Queue and order are measured for the whole sweep, the rest for a sample."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        arms, plan_s, plan, definition = _plan(sample // 5, root)
        rows, commit_s, commit_mb, replan_s = _ledger(arms, root)
        sinks_s = _sinks(plan, rows, root)
        queue_s = _queue(plan, trials)
        track_trial_s, track_round_s, track_end_s, retell_s = _tracker(definition, rows, root)
        order = pickle.dumps(plan.jobs)
        order_s = _seconds(lambda: pickle.loads(order)) / sample
        worker_s, tune_trial_s, tune_result_s = _tune(root)
    return Costs(
        **{"plan_s": plan_s, "replan_s": replan_s, "worker_s": worker_s, "queue_s": queue_s, "sinks_s": sinks_s},
        **{"trial_s": tune_trial_s + queue_s, "result_s": tune_result_s + sinks_s},
        **{"track_trial_s": track_trial_s, "track_round_s": track_round_s, "track_end_s": track_end_s},
        **{"retell_s": retell_s, "commit_s": commit_s},
        **{"commit_mb": commit_mb, "order_mb": len(order) / 1e6 / sample * trials, "order_s": order_s * trials},
    )


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _plan(arms: int, root: Path) -> tuple[Any, float, Any, dict[str, Any]]:
    """Arms with 5 seeds each, from the search space to sweep.json."""
    started = time.perf_counter()
    space = {"name": "scale", "trial": TRIAL, "grid": {"fine_tune.lr": [1e-3 + 1e-6 * each for each in range(arms)]}}
    config = SweepConfig.from_dict(space | {"seeds": [0, 1, 2, 3, 4]})
    resolved = config.resolved_arms()
    plan = plan_jobs(resolved, Ledger(root / "empty"))
    definition = define(config, resolved, None)
    return resolved, (time.perf_counter() - started) / (5 * arms), plan, definition


def _ledger(arms: Any, root: Path) -> tuple[dict[str, list[dict[str, Any]]], float, float, float]:
    """Rows of 200 trials, committed and read again; the numbers are those of one small real trial."""
    trials = [trial for arm in arms for trial in arm.trials][:200]
    first = trials[0]
    data = first.config.dataset.load()
    torch.manual_seed(0)
    *_, base = train_base(first.config)
    assert isinstance(base, Result)
    model = BaseModel(base.learner.state_dict(), base.val.report)
    *_, result = run_trial(first.config, model)
    assert isinstance(result, Result)
    of_base = base_row(first.config, first.base_id, base, "cpu")
    rows, commit_s = {}, 0.0
    (root / "sweep").mkdir()
    with Lease(root / "sweep" / "driver.json") as lease:
        ledger = Ledger(root / "sweep", token=lease.token)
        for trial in trials:
            start = copied_row(trial, of_base, base.val.report)
            row = round_row(trial, of_base, base.val.report, result, "cpu")
            ledger.start_trial(trial.trial_id, start)
            commit_s += _seconds(lambda: ledger.commit_round(trial.trial_id, row, result, data))  # noqa: B023
            rows[trial.trial_id] = [start, row]
        size = sum(path.stat().st_size for path in (root / "sweep").rglob("*.parquet"))
        replan_s = _seconds(lambda: plan_jobs(arms[: len(trials) // 5], ledger))
    return rows, commit_s / len(trials), size / 1e6 / len(trials), replan_s / len(trials)


def _sinks(plan: Any, rows: dict[str, list[dict[str, Any]]], root: Path) -> float:
    ledger = Ledger(root / "sinks")
    console = Console(plan, io.StringIO())
    driver = Driver(ledger, cast(Any, None), [console], plan.jobs, "")
    told = [{"job": key, "row": pack(row), "done": bool(row["round"])} for key, some in rows.items() for row in some]
    return _seconds(lambda: [driver("", each) for each in told]) / len(told)


def _queue(plan: Any, trials: int) -> float:
    """A whole sweep's worth of jobs, with 1,000 questions while the bases train."""
    jobs = [job for job in plan.to_do if job.trial is None]
    some = [job for job in plan.to_do if job.trial is not None]
    jobs += [replace(some[index % len(some)], id=str(index)) for index in range(trials)]

    def work() -> None:
        queue = JobQueue(jobs, finished=lambda _: True, give_up=lambda *_: None)
        started = 0
        while isinstance(queue.suggest(str(started)), dict):
            started += 1
        for _ in range(1000):
            queue.suggest("early")
        for index in range(started):
            queue.on_trial_complete(str(index))
        while isinstance(queue.suggest(str(started)), dict):
            queue.on_trial_complete(str(started))
            started += 1
        assert started == len(jobs)

    return _seconds(work) / trials


def _tracker(
    definition: dict[str, Any], rows: dict[str, list[dict[str, Any]]], root: Path
) -> tuple[float, float, float, float]:
    def tell(runs: MLflowRuns, rounds: int) -> float:
        """Seconds for each run."""
        told = [(job_id, some[:rounds]) for job_id, some in rows.items()]
        return _seconds(lambda: [runs.show(job_id, some, running=True) for job_id, some in told]) / len(rows)

    runs, again = (MLflowRuns(f"sqlite:///{root / 'mlflow.db'}", root) for _ in range(2))
    runs.open(definition, running=True)
    first, second = tell(runs, 1), tell(runs, 2)
    end_s = _seconds(runs.close) / len(rows)
    again.open(definition, running=True)
    return first - second, second, end_s, tell(again, 2)


class Nothing(tune.Trainable):  # type: ignore[misc]
    """A trial without work."""

    def setup(self, config: dict[str, Any]) -> None:
        """Torch is imported by then, as in a real one."""
        self.steps = config["steps"]
        assert torch.__version__

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """As in a real one, the process is used again."""
        self.steps = new_config["steps"]
        return True

    def step(self) -> dict[str, Any]:
        """A result as large as a row."""
        self.steps -= 1
        return {"row": pack(dict.fromkeys(map(str, range(60)), 0.5)), "at": time.time(), "done": not self.steps}


class Handed(NotSnapshotted, tune.search.Searcher):  # type: ignore[misc]
    """So many trials of so many steps."""

    def __init__(self, trials: int, steps: int) -> None:
        super().__init__()
        self._left, self._steps = trials, steps

    def suggest(self, trial_id: str) -> Any:
        """The next one."""
        self._left -= 1
        return {"steps": self._steps} if self._left >= 0 else tune.search.Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing depends on it."""


class Clock(NotSnapshotted, tune.Callback):  # type: ignore[misc]
    """When results came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """One more."""
        self.times.append(time.perf_counter())


def _tune(root: Path) -> tuple[float, float, float]:
    """Seconds to start a worker, for a trial, and for a result: 300 trials of 1 step against 30 of 40."""
    with loopback_only():
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, num_cpus=2)
    try:
        worker_s, short = _run(300, 1, root)
        _, long = _run(30, 40, root)
    finally:
        ray.shutdown()
    # short = 299 (trial + result); long = 30 trial + 1199 result
    result_s = max(0.0, (long - 30 * short / 299) / (1199 - 30))
    return worker_s, short / 299 - result_s, result_s


def _run(trials: int, steps: int, root: Path) -> tuple[float, float]:
    clock, scheduler = Clock(), Workers(cast(Any, None), cast(Any, None))  # of whom only the choice is asked here
    started = time.perf_counter()
    tune.Tuner(
        tune.with_resources(Nothing, tune.PlacementGroupFactory([{"CPU": 1}])),
        tune_config=tune.TuneConfig(
            search_alg=Handed(trials, steps), num_samples=-1, reuse_actors=True, scheduler=scheduler
        ),
        run_config=tune.RunConfig(
            **{"name": f"{trials}", "storage_path": str(root / "tune"), "verbose": 0, "callbacks": [clock]},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    return clock.times[0] - started, clock.times[-1] - clock.times[0]
