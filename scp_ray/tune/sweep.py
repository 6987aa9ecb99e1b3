"""A sweep from its definition to its last row: one driver, Ray Tune as the engine, the ledger as the memory."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from scp_ray.config import Arm, SweepConfig
from scp_ray.errors import ResourceError, SweepHeldError
from scp_ray.ledger import Ledger, Sink
from scp_ray.ledger.definition import define
from scp_ray.ledger.files import write_json
from scp_ray.ledger.lease import Lease
from scp_ray.ledger.models import prune_models
from scp_ray.tune.bases import JobQueue
from scp_ray.tune.driver import LOST_WORKER_RETRIES, Driver, signals_go_to
from scp_ray.tune.preflight import check_fits, cluster_nodes, trial_bundle
from scp_ray.tune.space import Plan
from scp_ray.tune.trainable import SweepTrainable, WorkOrder


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
    lease: Lease,
    plan: Plan,
    sinks: Sequence[Sink],
    *,
    rerun: str,
    address: str | None = None,
) -> Outcome:
    """Run what the ledger lacks.

    Args:
        lease: held by the caller; its token is the ledger's.
        plan: from ``plan_jobs``; failures of what it runs again are forgotten first.
        sinks: told of every committed row.
        rerun: the command that tries what failed once more; kept with each failure.
        address: of a running Ray cluster; without it a local Ray is started and ended here.

    Raises ResourceError before anything is written, where no node can hold a trial.
    """
    driver = Driver(ledger, lease, sinks, plan.jobs, rerun)
    if plan.to_do:
        with connected(address), signals_go_to(driver):
            nodes = cluster_nodes()
            bundle = trial_bundle(config.resources, nodes)
            check_fits(bundle, nodes, config.resources.device)
            definition = _define(config, arms, ledger)
            for job in plan.to_do:
                ledger.forget_failure(job.id)
            for sink in sinks:
                sink.open(definition)
            for row in _committed(plan, ledger):
                for sink in sinks:  # what a driver that was killed has committed and not told
                    sink.round(row)
            try:
                _tune(config, ledger, plan, bundle, driver)
            finally:
                for sink in sinks:
                    sink.close()
        if lease.lost:
            raise SweepHeldError(f"another driver has taken {ledger.root} over while this one was silent.")
    else:
        _define(config, arms, ledger)
    interrupted = driver.interrupted and len(driver.finished) < len(plan.to_do)
    if not interrupted:
        prune_models(ledger, config.keep_models)
        for job in plan.done:
            if job.trial is None:
                ledger.states(job.id).remove()  # left by a worker killed right after its commit
    return Outcome(len(driver.finished), len(plan.done), _failures(plan, ledger), interrupted)


def _committed(plan: Plan, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The rows that this sweep's jobs have in the ledger, base models first."""
    for job in (*plan.done, *plan.to_do):
        if job.trial is None and ledger.base_done(job.id):
            yield ledger.base_row(job.id)
    for job in (*plan.done, *plan.to_do):
        if job.trial is not None:
            yield from ledger.rounds(job.id)


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
def connected(address: str | None, **options: Any) -> Iterator[None]:
    """A Ray of our own unless an address is given: ``ray.init()`` alone would join one that happens to run."""
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except ConnectionError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address!r}: {error}. Start one (ray start --head), name the address it "
            "prints, or leave --address out for a local Ray."
        ) from error
    # what Tune has to say of failed trials is said by us, with the reason and what to do
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def _tune(config: SweepConfig, ledger: Ledger, plan: Plan, bundle: dict[str, float], driver: Driver) -> None:
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
        scorers=config.resources.scorers,
        gpus_per_scorer=config.resources.gpus_per_scorer,
    )
    scorers = [{"CPU": 1.0, "GPU": config.resources.gpus_per_scorer}] * config.resources.scorers
    trainable = tune.with_resources(
        tune.with_parameters(SweepTrainable, order=order), tune.PlacementGroupFactory([bundle, *scorers])
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
