"""What a sweep has to do: the base models and trials that its ledger lacks, each once."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scp_ray.config import Arm, ResolvedTrial, TrialConfig
from scp_ray.config.checks import outline
from scp_ray.config.identity import scores_id
from scp_ray.ledger import Ledger
from scp_ray.ledger.records import rows_done

# Failures that say nothing of the job itself: a lost worker, a base model that could not be had, a note that cannot be
# read. They are tried again without being asked; a base model that is truly broken keeps what needs it waiting.
PASSING = ("WorkerLost", "BaseFailed", "Unknown")


@dataclass(frozen=True)
class Job:
    """A base model (``trial`` is None) or a trial."""

    id: str
    label: str
    config: TrialConfig
    trial: ResolvedTrial | None
    requires: tuple[str, ...]  # ids of base models
    rounds_done: int = 0  # what the ledger held when the sweep was planned

    def epochs(self, rounds: int) -> int:
        """The work of so many rounds, for the ETA: their epochs and one more each for scoring and evaluation."""
        if self.trial is None:
            return self.config.train.epochs + 1
        return rounds * (self.config.fine_tune.epochs + 1)

    @property
    def work(self) -> int:
        """What is left of it, in epochs."""
        return self.epochs(self.config.rounds - self.rounds_done)


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep, told apart by what the ledger already holds."""

    to_do: tuple[Job, ...]  # bases first
    done: tuple[Job, ...]
    failed: tuple[Job, ...]  # failed before, and not to be tried again unless asked
    shared: int  # arms that resolve to a trial of another arm

    @property
    def jobs(self) -> dict[str, Job]:
        """To do, by id."""
        return {job.id: job for job in self.to_do}

    def weight_bytes(self) -> int:
        """What the jobs to do can leave on disk: a model each, and a trial its last state and its selected round.

        While a job runs, its state is there twice, each time with the optimizer's momentum.
        """
        total = 0
        for job in self.to_do:
            parameters = outline(job.config.backbone, job.config.dataset.image_size).module.parameters()
            model = 4 * sum(parameter.numel() for parameter in parameters)
            total += model if job.trial is None else 4 * model
        return total


def plan_jobs(arms: Iterable[Arm], ledger: Ledger, *, retry_failed: bool = False, searching: bool = False) -> Plan:
    """Compare the arms with the ledger. A trial shared by arms is one job, run for the most rounds asked.

    To a search (``searching``) a trial that was stopped early is done; else it goes on where it was stopped.
    """
    trials: dict[str, Job] = {}
    bases: dict[str, Job] = {}
    shared = 0
    for arm in arms:
        shared += any(trial.trial_id in trials for trial in arm.trials)
        for trial in arm.trials:
            job = Job(trial.trial_id, f"{arm.label}, seed={trial.config.seed}", trial.config, trial, ())
            known = trials.get(job.id)
            if known is None or known.config.rounds < job.config.rounds:
                trials[job.id] = replace(job, requires=tuple(trial.bases()))
            ordered = trial.bases()
            for position, (base_id, config) in enumerate(ordered.items()):
                label = base_label(config)
                # each stands after those it needs: its method's own, and the vanilla one it calibrates against
                needs = tuple(ordered)[:position]
                bases.setdefault(base_id, Job(base_id, label, config, None, needs))
    failures = ledger.failures()
    rows = {job.id: ledger.rounds(job.id) for job in trials.values()}  # each file is read once
    done = [job for job in bases.values() if ledger.base_done(job.id)]
    for trial_id in trials:
        ledger.check_trial(trial_id)
    done += [job for job in trials.values() if rows_done(rows[job.id], job.config.rounds, searching=searching)]
    finished = {job.id for job in done}
    failed: list[Job] = []
    if not retry_failed:
        broken = {
            key for key, failure in failures.items() if key not in finished and failure.get("kind") not in PASSING
        }
        failed = [job for job in (*bases.values(), *trials.values()) if job.id in broken or broken & {*job.requires}]
    left_out = finished | {job.id for job in failed}
    wanted = [
        replace(job, rounds_done=max(0, len(rows[job.id]) - 1)) for job in trials.values() if job.id not in left_out
    ]
    needed = {base for job in wanted for base in job.requires}
    to_do = [job for job in bases.values() if job.id not in left_out and job.id in needed] + wanted
    return Plan(tuple(to_do), tuple(done), tuple(failed), shared)


def base_label(config: TrialConfig) -> str:
    """How a base model is called."""
    return f"base {config.method.plugin_name}, seed={config.seed}"


def failure_of(label: str, error: BaseException) -> dict[str, Any]:
    """What is kept of an error."""
    return {
        "label": label,
        "kind": type(error).__name__,
        "reason": str(error) or type(error).__name__,
        "traceback": "".join(traceback.format_exception(error)),
    }


def base_failed(label: str, base_id: str, base: str) -> dict[str, Any]:
    """What is kept of a trial, or base model, that needs one that failed, which is called ``base``."""
    return {
        "label": label,
        "kind": "BaseFailed",
        "reason": f"its base model {base_id} failed ({base})",
        "traceback": "",
    }


def first_scorings_first(jobs: Sequence[Job]) -> list[Job]:
    """Base models, then one trial of each first scoring that they share, then the others; each kind in its order.

    Two trials of one base model and layer that begin side by side would both make the scores that one can read.
    """
    scored: set[tuple[str, str]] = set()
    turns: tuple[list[Job], list[Job], list[Job]] = ([], [], [])
    for job in jobs:
        turn = 0
        if job.trial is not None:
            scoring = (job.trial.base_id, scores_id(job.config, job.trial.layer))
            turn = 1 if job.trial.k and job.config.rounds and not job.rounds_done and scoring not in scored else 2
            if turn == 1:
                scored.add(scoring)
        turns[turn].append(job)
    return [job for turn in turns for job in turn]
