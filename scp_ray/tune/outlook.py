"""What is still to be done, as far as it is known before the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scp_ray.config import Arm, SweepConfig
from scp_ray.ledger import Ledger
from scp_ray.tune.search_sweep import standing
from scp_ray.tune.space import Job, plan_jobs


@dataclass(frozen=True)
class Outlook:
    """The jobs of a grid, or base models of a search and a trial of each kind that it may choose."""

    jobs: tuple[Job, ...]  # base models first
    configurations: int = 0  # that a search has yet to choose or to finish; its trials above stand for them in turn
    seeds: tuple[int, int] = (0, 0)  # of each configuration of a search, at least and at most
    first: frozenset[int] = frozenset()  # the seeds that every configuration of a search is run with

    @property
    def searches(self) -> bool:
        """Whether the trials are those of a search, which nobody knows yet."""
        return bool(self.seeds[1])


def outlook(config: SweepConfig, ledger: Ledger, *, retry_failed: bool = False) -> Outlook:
    """Look at the ledger. Raises ConfigError where an arm makes no trial."""
    if config.search is None:
        return Outlook(plan_jobs(config.resolved_arms(), ledger, retry_failed=retry_failed).to_do)
    now = standing(config, ledger, retry_failed=retry_failed)
    replicates = config.search.replicates
    first, every = len(replicates.first), len(replicates.seeds if replicates.race else replicates.first)
    left = 0 if now.over else now.to_come + now.states.get("RUNNING", 0)
    if not left:
        return Outlook((), 0, (first, every), frozenset(replicates.first))
    points = [*config.search.start_points(), *(settings for _, settings in config.search.probes())]
    arms = [config.arm_at(point, replicates.seeds[:every]) for point in points]
    bases = [job for job in plan_jobs(arms, ledger, retry_failed=retry_failed).to_do if job.trial is None]
    return Outlook((*bases, *_kinds(arms)), left, (first, every), frozenset(replicates.first))


def _kinds(arms: Sequence[Arm]) -> list[Job]:
    """The first trial of each arm, whether it is done or not."""
    found = {arm.trials[0].trial_id: arm for arm in arms}
    return [
        Job(name, arm.label, arm.trials[0].config, arm.trials[0], tuple(arm.trials[0].bases()))
        for name, arm in found.items()
    ]
