"""A search from its first point to its last: Optuna chooses, Ray Tune runs, the ledger remembers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from scp_ray.config import SweepConfig
from scp_ray.ledger import Ledger, Sink
from scp_ray.ledger.files import clear_half_written
from scp_ray.ledger.lease import Lease
from scp_ray.ledger.models import prune_models
from scp_ray.tune.bases import NotSnapshotted
from scp_ray.tune.connection import connected
from scp_ray.tune.driver import Driver
from scp_ray.tune.node_types import nodes_to_come
from scp_ray.tune.own_ray import OwnRay
from scp_ray.tune.placement import Bundle, Node, fits
from scp_ray.tune.preflight import cluster_nodes, place_trials
from scp_ray.tune.probe import probe_nodes
from scp_ray.tune.search import Search, Told
from scp_ray.tune.search_queue import SearchQueue
from scp_ray.tune.space import Plan, plan_jobs
from scp_ray.tune.study import open_study
from scp_ray.tune.sweep import Outcome, committed, define_sweep, run_queue

MOST_SLOTS = 10_000


@dataclass(frozen=True)
class Standing:
    """How far a search is."""

    states: dict[str, int]  # Optuna's state -> configurations; those tried once more count once
    plan: Plan  # of the configurations so far, with the seeds they have
    over: bool
    to_come: int  # configurations that are not asked yet


def standing(config: SweepConfig, ledger: Ledger, *, retry_failed: bool = False) -> Standing:
    """From the study, if there is one, and the ledger; nothing is written."""
    assert config.search is not None
    study = open_study(config, ledger, make=False)
    if study is None:
        return Standing({}, Plan((), (), (), 0), False, config.search.trials)
    search = Search(config, ledger, study, [], lambda *_: None, retry_failed=retry_failed)
    states = [each.state for each in search.campaign.configurations.values()]
    counted = {state: states.count(state) for state in dict.fromkeys(states)}
    plan = plan_jobs(search.arms(), ledger, retry_failed=retry_failed, searching=True)
    return Standing(counted, plan, search.campaign.over, search.campaign.to_come)


def run_search(
    config: SweepConfig,
    ledger: Ledger,
    lease: Lease,
    sinks: Sequence[Sink],
    told: Told,
    *,
    rerun: str,
    retry_failed: bool = False,
    place: str | OwnRay | None = None,
    wait_s: float = 0.0,
) -> Outcome:
    """Run a search, or go on with one. Arguments are those of ``run_sweep``; ``told`` hears of jobs as they come."""
    before = standing(config, ledger, retry_failed=retry_failed)
    driver = Driver(ledger, lease, sinks, {}, rerun)
    work = _Work(config, ledger, sinks, told, driver, place, wait_s, retry_failed)
    if not before.over:
        driver.run(work.run)
    interrupted = driver.interrupted and not (work.search is not None and work.search.campaign.over)
    if not interrupted:
        ledger.check_lease()
        prune_models(ledger, config.keep_models)
    wanted = {job.id for job in (*before.plan.to_do, *before.plan.failed)} | driver.jobs.keys()
    failures = {key: failure for key, failure in ledger.failures().items() if key in wanted}
    return Outcome(len(driver.finished), len(before.plan.done), failures, interrupted)


class _Work:
    """Everything that Ray is needed for."""

    def __init__(
        self,
        config: SweepConfig,
        ledger: Ledger,
        sinks: Sequence[Sink],
        told: Told,
        driver: Driver,
        place: str | OwnRay | None,
        wait_s: float,
        retry_failed: bool,
    ) -> None:
        self._config, self._ledger, self._sinks, self._told, self._driver = config, ledger, sinks, told, driver
        self._place, self._wait_s, self._retry_failed = place, wait_s, retry_failed
        self.search: Search | None = None

    def run(self) -> None:
        """Connect, look at the nodes, open the study, and work until no configuration is left."""
        config, driver, may_grow = self._config, self._driver, isinstance(self._place, str)
        with connected(self._place):
            driver.ray_is_up.set()
            driver.check()
            bundles = place_trials(config.resources, may_grow=may_grow, wait_s=self._wait_s, check_on=driver.check)
            probe_nodes(cluster_nodes(), bundles, self._ledger.root, config.data_sets())
            search = self._open()
            driver.judge = search.judge
            slots = _Slots(config, bundles, may_grow=may_grow)
            queue = SearchQueue(search, driver, finished=self._ledger.base_done, slots=slots)
            try:
                run_queue(config, self._ledger, queue, {}, lambda asked: bool(asked["base"]), bundles, driver)
            finally:
                for sink in self._sinks:
                    sink.close()
        if search.campaign.exhausted:
            print(
                f"The space is exhausted after {len(search.campaign.configurations)} configurations: what else the "
                "sampler proposes has been run.",
                file=sys.stderr,
            )

    def _open(self) -> Search:
        """The study, sweep.json, and the sinks told of what is there."""
        config, ledger = self._config, self._ledger
        study = open_study(config, ledger, make=True)
        assert study is not None
        self.search = search = Search(config, ledger, study, self._sinks, self._told, retry_failed=self._retry_failed)
        arms = search.first_arms()
        definition = define_sweep(config, arms, ledger)
        clear_half_written(ledger.root)
        plan = plan_jobs(arms, ledger, retry_failed=self._retry_failed, searching=True)
        for sink in self._sinks:
            sink.open(definition)
        search.open(definition)
        for row in committed(plan, ledger):
            for sink in self._sinks:
                sink.round(row)
        return search


class _Slots(NotSnapshotted):
    """How many trials the cluster holds side by side, nodes that may still start included."""

    def __init__(self, config: SweepConfig, bundles: list[Bundle], *, may_grow: bool) -> None:
        self._resources, self._bundles, self._may_grow = config.resources, bundles, may_grow

    def __call__(self) -> int:
        nodes = cluster_nodes()
        if self._may_grow:
            nodes = [*nodes, *nodes_to_come(self._resources.node_types, nodes, self._resources.scorers + 1)]
        return groups_that_fit(self._bundles, nodes)


def groups_that_fit(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> int:
    """So many trials at once; at least one, since a node may be on its way."""
    count = 1
    while count < MOST_SLOTS and fits([*bundles] * (count + 1), nodes):
        count += 1
    return count
