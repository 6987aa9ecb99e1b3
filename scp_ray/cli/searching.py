"""The part of ``scp-ray sweep`` that runs a search."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from scp_ray import signals
from scp_ray.cli.output import print_json
from scp_ray.cli.planning import tell_forecast
from scp_ray.cli.spaces import command_line
from scp_ray.cli.sweep_lines import counted, say, tell_outcome, warn_at_chance

if TYPE_CHECKING:
    from scp_ray.config import SweepConfig
    from scp_ray.ledger import Ledger, Sink
    from scp_ray.ledger.lease import Lease
    from scp_ray.tune.own_ray import OwnRay
    from scp_ray.tune.search_sweep import Standing


def dry_run(options: argparse.Namespace, config: SweepConfig, ledger: Ledger) -> int:
    """Say what would run."""
    from scp_ray.tune.search_sweep import standing

    before = standing(config, ledger, retry_failed=options.retry_failed)
    _tell_standing(config, before)
    warn_at_chance(before.plan, ledger)
    tell_forecast(options, config, ledger, _summary(config, before, ledger))
    return 0


def search(
    options: argparse.Namespace,
    config: SweepConfig,
    before: Standing,
    ledger: Ledger,
    lease: Lease,
    place: str | OwnRay | None,
) -> int:
    """Run it there (see ``run_sweep``) and report; ``before`` is how far it is."""
    from scp_ray.tracking.apart import Apart
    from scp_ray.tune.progress import Console
    from scp_ray.tune.search_sweep import run_search, standing
    from scp_ray.tune.space import Plan

    _tell_standing(config, before)
    warn_at_chance(before.plan, ledger)
    console, fill = Console(Plan((), (), (), 0)), shlex.join(["scp-ray", "track", str(ledger.root)])
    sinks: list[Sink] = [console, Apart(ledger, fill, console.note)]
    rerun = command_line(options, "sweep", "--retry-failed")
    outcome = run_search(
        config,
        ledger,
        lease,
        sinks,
        console.add,
        rerun=rerun,
        retry_failed=options.retry_failed,
        place=place,
        wait_s=options.wait,
    )
    if options.json:
        after = standing(config, ledger)
        print_json(
            _summary(config, after, ledger)
            | {
                "finished": outcome.done,
                "failed": {key: failure["reason"] for key, failure in outcome.failures.items()},
                "interrupted": outcome.interrupted,
            }
        )
    tell_outcome(outcome, ledger.root, rerun)
    if outcome.interrupted:
        return signals.EXIT_CODE
    return 1 if outcome.failures else 0


def _tell_standing(config: SweepConfig, before: Standing) -> None:
    search = config.search
    assert search is not None
    first, all_seeds = len(search.replicates.first), len(search.replicates.seeds)
    seeds = f"{first} to {all_seeds} seeds" if search.replicates.race else counted(first, "seed")
    goals = ", ".join(f"{each.metric} {each.direction}" for each in search.objectives)
    trials = (
        f"{search.trials * first} to {search.trials * all_seeds}" if search.replicates.race else search.trials * first
    )
    size = f"{counted(search.trials, 'configuration')} x {seeds}"
    early = ", stopped early where others are better" if search.asha else ""
    parts = [f"search of {size} by {search.sampler} for {goals}: {trials} trials{early}"]
    if before.states:
        parts.append("so far " + ", ".join(f"{count} {state}" for state, count in before.states.items()))
    parts.append("nothing to do" if before.over else f"{counted(before.to_come, 'configuration')} to choose")
    say("; ".join(parts) + ".")


def _summary(config: SweepConfig, now: Standing, ledger: Ledger) -> dict[str, Any]:
    search = config.search
    assert search is not None
    return {
        "sweep": str(ledger.root),
        "search": {
            "sampler": search.sampler,
            "configurations": search.trials,
            "states": now.states,
            "to_choose": now.to_come,
            "over": now.over,
            "trials_at_least": search.trials * len(search.replicates.first),
            "trials_at_most": search.trials
            * len(search.replicates.seeds if search.replicates.race else search.replicates.first),
        },
        "to_do": {
            "bases": [job.id for job in now.plan.to_do if job.trial is None],
            "trials": [job.id for job in now.plan.to_do if job.trial is not None],
        },
        "already_done": len(now.plan.done),
        "failed_before": [job.id for job in now.plan.failed],
    }
