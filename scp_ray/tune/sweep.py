"""A sweep from its definition to its last row: one driver, Ray Tune as the engine, the ledger as the memory."""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from scp_ray.config import Arm, SweepConfig
from scp_ray.ledger import Ledger, Sink
from scp_ray.ledger.definition import define
from scp_ray.ledger.files import write_json
from scp_ray.ledger.models import prune_models
from scp_ray.tune.bases import JobQueue, NotSnapshotted
from scp_ray.tune.preflight import check_fits, cluster_nodes, trial_bundle
from scp_ray.tune.space import Job, Plan
from scp_ray.tune.trainable import SweepTrainable, WorkOrder

LOST_WORKER_RETRIES = 3


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended."""

    done: int  # jobs finished now
    skipped: int  # jobs that the ledger already held
    failures: dict[str, dict[str, Any]]
    interrupted: bool


def run_sweep(
    config: SweepConfig,
    arms: Sequence[Arm],
    ledger: Ledger,
    plan: Plan,
    sinks: Sequence[Sink],
    *,
    rerun: str,
    address: str | None = None,
) -> Outcome:
    """Run what the ledger lacks. The caller holds the sweep's lease, and its token is the ledger's.

    Args:
        plan: from ``plan_jobs``; failures of what it runs again are forgotten first.
        sinks: told of every committed row.
        rerun: the command that tries what failed once more; kept with each failure.
        address: of a running Ray cluster; without it a local Ray is started and ended here.

    Raises ResourceError before anything is written, where no node can hold a trial.
    """
    if not plan.to_do:
        _define(config, arms, ledger)
        return Outcome(0, len(plan.done), _failures(plan, ledger), interrupted=False)
    with _ray(address):
        nodes = cluster_nodes()
        bundle = trial_bundle(config.resources, nodes)
        check_fits(bundle, nodes)
        definition = _define(config, arms, ledger)
        for job in plan.to_do:
            ledger.forget_failure(job.id)
        for sink in sinks:
            sink.open(definition)
        driver = _Driver(ledger, sinks, plan.jobs, rerun)
        try:
            _tune(config, ledger, plan, bundle, driver)
        finally:
            for sink in sinks:
                sink.close()
    if not driver.interrupted:
        prune_models(ledger, config.keep_models)
    return Outcome(len(driver.finished), len(plan.done), _failures(plan, ledger), driver.interrupted)


def _define(config: SweepConfig, arms: Sequence[Arm], ledger: Ledger) -> dict[str, Any]:
    """Write sweep.json, keeping what earlier runs put there."""
    previous = ledger.definition() if ledger.definition_path.exists() else None
    definition = define(config, arms, previous)
    write_json(ledger.definition_path, definition)
    return definition


def _failures(plan: Plan, ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Failures of this sweep's own jobs, those before this run included."""
    mine = {job.id for job in (*plan.to_do, *plan.failed)}
    return {key: failure for key, failure in ledger.failures().items() if key in mine}


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """A Ray of our own unless an address is given: ``ray.init()`` alone would join one that happens to run."""
    ray.init(
        address=address or "local",
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
    )
    # what Tune has to say of failed trials is said by us, with the reason and what to do
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def _tune(config: SweepConfig, ledger: Ledger, plan: Plan, bundle: dict[str, float], driver: _Driver) -> None:
    assert ledger.token is not None
    order = WorkOrder(
        root=str(ledger.root),
        token=ledger.token,
        jobs=plan.jobs,
        threads=config.resources.threads,
        device=config.resources.device,
        gpus=bundle["GPU"],
        checkpoint_s=60 * config.checkpoint_minutes,
        keep_models=config.keep_models != "none",
    )
    trainable = tune.with_resources(
        tune.with_parameters(SweepTrainable, order=order), tune.PlacementGroupFactory([bundle])
    )
    queue = JobQueue(plan.to_do, finished=ledger.base_done, give_up=driver.give_up)
    scratch = ledger.root / "logs" / "tune"  # Tune's own notes, never read: gone before and after each run
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(search_alg=queue, num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(scratch),
                verbose=0,
                stop=driver,
                callbacks=[driver.callback()],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=LOST_WORKER_RETRIES),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Driver(NotSnapshotted, tune.Stopper):  # type: ignore[misc]
    """The driver's side of a run: passes rows on, notes what failed, stops on a signal."""

    def __init__(self, ledger: Ledger, sinks: Sequence[Sink], jobs: dict[str, Job], rerun: str) -> None:
        self._ledger, self._sinks, self._jobs, self._rerun = ledger, sinks, jobs, rerun
        self.finished: set[str] = set()
        self.interrupted = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked by Tune between events."""
        return self.interrupted

    def interrupt(self, *_: Any) -> None:
        """SIGINT or SIGTERM: end the run; the ledger knows where to go on."""
        self.interrupted = True

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
        cause = getattr(error, "cause", None)
        what = f"met {type(cause).__name__}: {cause}" if cause else "died (out of memory is the usual cause)"
        reason = f"its worker {what}, {LOST_WORKER_RETRIES + 1} times in a row."
        label = self._jobs[job_id].label
        self._failed(job_id, {"label": label, "kind": "WorkerLost", "reason": reason, "traceback": str(error)})

    def _failed(self, job_id: str, failure: dict[str, Any]) -> None:
        failure = failure | {"rerun": self._rerun}
        self._ledger.record_failure(job_id, failure)
        for sink in self._sinks:
            sink.failed({"id": job_id} | failure)

    def callback(self) -> tune.Callback:
        """What Tune calls on this driver."""
        return _Callback(self)


class _Callback(NotSnapshotted, tune.Callback):  # type: ignore[misc]
    def __init__(self, driver: _Driver) -> None:
        self._driver = driver

    def setup(self, **_: Any) -> None:
        # here, because ray.init and Tuner.fit put handlers of their own in place of earlier ones
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._driver.interrupt)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        self._driver.result(result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._driver.lost(trial.config["job"], trial.get_error())
