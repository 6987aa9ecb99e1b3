"""A sweep from its definition to its last row: one driver, Ray Tune as the engine, the ledger as the memory."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune

from scp_ray.config import Arm, SweepConfig
from scp_ray.ledger import Ledger, Sink
from scp_ray.ledger.definition import define, version_notes
from scp_ray.ledger.files import clear_half_written, write_json
from scp_ray.ledger.lease import Lease
from scp_ray.ledger.models import prune_models
from scp_ray.tune.bases import JobQueue
from scp_ray.tune.connection import connected
from scp_ray.tune.driver import Driver, memory_kills_are_lost_workers
from scp_ray.tune.own_ray import OwnRay
from scp_ray.tune.placement import Bundle, head_only
from scp_ray.tune.preflight import cluster_nodes, place_trials
from scp_ray.tune.probe import probe_nodes
from scp_ray.tune.space import Job, Plan, first_scorings_first
from scp_ray.tune.trainable import SweepTrainable, WorkOrder
from scp_ray.tune.workers import Workers


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
    place: str | OwnRay | None = None,
    wait_s: float = 0.0,
) -> Outcome:
    """Run what the ledger lacks.

    Args:
        lease: held by the caller; its token is the ledger's.
        plan: from ``plan_jobs``; failures of what it runs again are forgotten first.
        sinks: told of every committed row.
        rerun: the command that tries what failed once more; kept with each failure.
        place: the address of a running Ray cluster, or a Ray of our own that is on its way; without either one is
            started. One of our own is ended here.
        wait_s: how long nodes that may still start are waited for.

    Raises ResourceError before anything is written, where the cluster cannot hold a trial or a node cannot do its part.
    """
    driver = Driver(ledger, lease, sinks, plan.jobs, rerun)
    if plan.to_do:
        driver.run(lambda: _run(config, arms, ledger, plan, sinks, place, driver, wait_s))
    else:
        define_sweep(config, arms, ledger)
    interrupted = driver.interrupted and len(driver.finished) < len(plan.to_do)
    if not interrupted:
        ledger.check_lease()
        prune_models(ledger, config.keep_models)
        for job in plan.done:
            if job.trial is None:
                ledger.states(job.id).remove()  # left by a worker killed right after its commit
    return Outcome(len(driver.finished), len(plan.done), _failures(plan, ledger), interrupted)


def _run(
    config: SweepConfig,
    arms: Sequence[Arm],
    ledger: Ledger,
    plan: Plan,
    sinks: Sequence[Sink],
    place: str | OwnRay | None,
    driver: Driver,
    wait_s: float,
) -> None:
    """Everything that Ray is needed for."""
    with connected(place):
        driver.ray_is_up.set()
        driver.check()
        bundles = place_trials(config.resources, may_grow=isinstance(place, str), wait_s=wait_s, check_on=driver.check)
        data = list(dict.fromkeys(job.config.dataset for job in plan.to_do))
        probe_nodes(cluster_nodes(), bundles, ledger.root, data)
        definition = define_sweep(config, arms, ledger)
        clear_half_written(ledger.root)
        for job in plan.to_do:
            ledger.forget_failure(job.id)
        for sink in sinks:
            sink.open(definition)
        for row in committed(plan, ledger):
            for sink in sinks:  # what a driver that was killed has committed and not told
                sink.round(row)
        bases = frozenset(job.id for job in plan.to_do if job.trial is None)  # all that Ray has to carry along
        queue = JobQueue(first_scorings_first(plan.to_do), finished=ledger.base_done, give_up=driver.give_up)
        try:
            run_queue(config, ledger, queue, plan.jobs, lambda asked: asked["job"] in bases, bundles, driver)
        finally:
            for sink in sinks:
                sink.close()


def committed(plan: Plan, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The rows that this sweep's jobs have in the ledger, base models first."""
    for job in (*plan.done, *plan.to_do):
        if job.trial is None and ledger.base_done(job.id):
            yield ledger.base_row(job.id)
    for job in (*plan.done, *plan.to_do):
        if job.trial is not None:
            yield from ledger.rounds(job.id)


def define_sweep(config: SweepConfig, arms: Sequence[Arm], ledger: Ledger) -> dict[str, Any]:
    """Write sweep.json, keeping what earlier runs put there."""
    ledger.check_lease()
    previous = ledger.definition() if ledger.definition_path.exists() else None
    for note in version_notes(previous):
        print(f"warning: {note}", file=sys.stderr)
    definition = define(config, arms, previous)
    write_json(ledger.definition_path, definition)
    return definition


def _failures(plan: Plan, ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Failures of this sweep's own jobs, those before this run included."""
    mine = {job.id for job in (*plan.to_do, *plan.failed)}
    return {key: failure for key, failure in ledger.failures().items() if key in mine}


def run_queue(
    config: SweepConfig,
    ledger: Ledger,
    queue: JobQueue,
    jobs: dict[str, Job],
    is_base: Callable[[dict[str, Any]], bool],
    bundles: list[Bundle],
    driver: Driver,
) -> None:
    """Have Tune work off a queue; ``jobs`` are those that are known beforehand."""
    assert ledger.token is not None
    order = WorkOrder(
        root=str(ledger.root),
        token=ledger.token,
        jobs=jobs,
        threads=config.resources.threads,
        device=config.resources.device,
        gpus=bundles[0]["GPU"],
        checkpoint_s=60 * config.checkpoint_minutes,
        keep_models=config.keep_models != "none",
        scorers=config.resources.scorers,
        gpus_per_scorer=config.resources.gpus_per_scorer,
    )

    def group(asked: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What a job holds; a base model leaves the scorers' share to others."""
        return tune.PlacementGroupFactory(head_only(bundles) if is_base(asked) else bundles)

    trainable = tune.with_resources(tune.with_parameters(SweepTrainable, order=order), group)
    # Tune's own notes, pickled and never read: in a new folder of this user alone, whatever disk the ledger is on
    with tempfile.TemporaryDirectory(prefix="scp_ray-tune-", ignore_cleanup_errors=True) as scratch:
        memory_kills_are_lost_workers()
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=queue, scheduler=Workers(driver, queue), num_samples=-1, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                stop=driver,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
