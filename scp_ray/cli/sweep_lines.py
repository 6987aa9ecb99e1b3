"""What ``scp-ray sweep`` says of its plan and of how it ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scp_ray.config import Arm
    from scp_ray.ledger import Ledger
    from scp_ray.places import AnyPath
    from scp_ray.tune.space import Plan


def plan_summary(plan: Plan, root: AnyPath) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "sweep": str(root),
        "to_do": {
            "bases": [job.id for job in plan.to_do if job.trial is None],
            "trials": [job.id for job in plan.to_do if job.trial is not None],
        },
        "already_done": len(plan.done),
        "failed_before": [job.id for job in plan.failed],
    }


def tell_plan(plan: Plan, arms: list[Arm], keep_models: str) -> None:
    """What is to be run, what is there, and what it takes on disk."""
    trials = sum(job.trial is not None for job in plan.to_do)
    seeds = len(arms[0].trials)
    bases = len(plan.to_do) - trials
    parts = [
        f"{counted(len(arms), 'arm')} x {counted(seeds, 'seed')}",
        f"{counted(trials, 'trial')} and {counted(bases, 'base model')} to run",
    ]
    if plan.done:
        parts.append(f"{len(plan.done)} already done")
    if plan.shared:
        parts.append(f"{counted(plan.shared, 'arm')} resolve to a trial of another arm and share it")
    if plan.failed:
        parts.append(f"{len(plan.failed)} failed before (--retry-failed tries them again)")
    if plan.to_do:
        bytes_ = plan.weight_bytes()
        parts.append(f"weights and state on disk: at most {bytes_ / 1e6:,.0f} MB (keep_models: {keep_models})")
    say("; ".join(parts) + ".")


def warn_at_chance(plan: Plan, ledger: Ledger) -> None:
    """Of base models that are there already; of others the sweep says it when they are trained."""
    from scp_ray.tune.chance import planned_warning

    if warning := planned_warning(plan, ledger):
        say(warning)


def tell_outcome(outcome: Any, root: AnyPath, rerun: str) -> None:
    """What failed, and where everything lies."""
    for failure in outcome.failures.values():
        say(f"failed: {failure['label']}: {failure['reason']}")
    if outcome.failures:
        say(f"Try what failed once more: {rerun}")
    if outcome.interrupted:
        say("Stopped by a signal; run the same command again to go on.")
    elif not outcome.done and not outcome.failures:
        say("Nothing to do: everything asked for is in the ledger.")
    say(f"Ledger: {root}\nTable and figure: scp-ray report {root}")


def counted(number: int, noun: str) -> str:
    """ "1 arm", "2 arms"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """A line for the person; stdout is for ``--json``."""
    print(text, file=sys.stderr)
