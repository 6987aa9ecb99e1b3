"""Run a search space: every arm and seed that its ledger lacks.

Running the same command again does nothing, goes on after an interruption, or runs what is new.
"""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from scp_ray import signals
from scp_ray.cli.output import print_json
from scp_ray.cli.planning import check_limit, foresee, tell_forecast
from scp_ray.cli.preparing import checked, images_known, leaving_no_trace, put_off, ray_on_its_way, ready_arms
from scp_ray.cli.spaces import (
    WAIT_S,
    add_address_argument,
    add_space_arguments,
    command_line,
    prepare_data,
    read_raw,
    seconds_of,
)
from scp_ray.cli.sweep_lines import plan_summary, tell_outcome, tell_plan, warn_at_chance

if TYPE_CHECKING:
    from scp_ray.config import Arm, SweepConfig, TrialConfig
    from scp_ray.ledger import Ledger, Sink
    from scp_ray.ledger.lease import Lease
    from scp_ray.tune.own_ray import OwnRay
    from scp_ray.tune.space import Plan

P = TypeVar("P")  # what a plan is: of a grid or of a search


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray sweep``."""
    add_space_arguments(parser)
    add_address_argument(parser, "; without it a local Ray is started")
    parser.add_argument(
        "--wait",
        type=seconds_of,
        default=WAIT_S,
        metavar="T",
        help="how long to wait for nodes that may still start, e.g. 90s, 15m, 2h (default: 15m)",
    )
    parser.add_argument(
        "--max-gpu-hours",
        type=_positive,
        metavar="H",
        help="refuse a plan that may take more GPU-hours (estimated from earlier sweeps or a mini-round)",
    )
    parser.add_argument("--retry-failed", action="store_true", help="try what failed once more")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would run, what it takes and what it can show, and stop"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Check everything, take the lease, run, report."""
    raw = read_raw(options)
    with ray_on_its_way(options, raw) as place:
        return _run_at(options, raw, place)


def _run_at(options: argparse.Namespace, raw: dict[str, Any], place: str | OwnRay | None) -> int:
    from scp_ray.config import SweepConfig
    from scp_ray.ledger import Ledger
    from scp_ray.ledger.lease import lease_on
    from scp_ray.ledger.ledger import sweep_folder

    config = SweepConfig.from_dict(raw)
    ledger = Ledger(sweep_folder(options.out, config.name))
    if options.dry_run:
        return _dry_run(options, config, ledger)
    place = put_off(place, config)
    with leaving_no_trace(ledger.root), lease_on(ledger.driver) as lease:
        held = Ledger(ledger.root, token=lease.token)
        run_held = _search_held if config.search else _run_held
        return run_held(options, config, held, lease, place)


def _dry_run(options: argparse.Namespace, config: SweepConfig, ledger: Ledger) -> int:
    from scp_ray.cli.searching import dry_run
    from scp_ray.tune.space import plan_jobs

    if not images_known(config):
        checked(config)
    prepare_data(config, decode=False)
    arms = config.resolved_arms()
    _refuse_other_settings(config, arms, ledger)
    if config.search:
        return dry_run(options, config, ledger)
    plan = plan_jobs(arms, ledger, retry_failed=options.retry_failed)
    tell_plan(plan, arms, config.keep_models)
    warn_at_chance(plan, ledger)
    tell_forecast(options, config, ledger, plan_summary(plan, ledger.root))
    return 0


def _refuse_other_settings(config: SweepConfig, arms: list[Arm], ledger: Ledger) -> None:
    from scp_ray.ledger.changes import refuse_other_settings

    previous = ledger.definition() if ledger.definition_path.exists() else None
    refuse_other_settings(arms, previous, ledger.rounds, searching=config.search is not None)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed is a number > 0")
    return number


def _refusing(
    options: argparse.Namespace, config: SweepConfig, ledger: Ledger
) -> Callable[[Sequence[TrialConfig]], None]:
    """Raises where the machine or the cluster, the weights or the limit on GPU-hours do not allow what is asked for."""

    def refuse(configs: Sequence[TrialConfig]) -> None:
        from scp_ray.tune.ahead import check_ahead

        check_ahead(config.resources, config.data_sets(), ledger.root, options.address)
        for backbone in dict.fromkeys(each.backbone for each in configs):
            backbone.check_weights()
        if options.max_gpu_hours is not None:
            check_limit(foresee(options, config, ledger), options.max_gpu_hours)

    return refuse


def _ready(
    options: argparse.Namespace, config: SweepConfig, ledger: Ledger, plan: Callable[[list[Arm]], tuple[P, bool]]
) -> tuple[list[Arm], P]:
    def compare(arms: list[Arm]) -> tuple[P, bool]:
        _refuse_other_settings(config, arms, ledger)
        return plan(arms)

    return ready_arms(
        config,
        new=not ledger.definition_path.exists(),
        plan=compare,
        refuse=_refusing(options, config, ledger),
        look=options.max_gpu_hours is not None,
    )


def _search_held(
    options: argparse.Namespace, config: SweepConfig, ledger: Ledger, lease: Lease, place: str | OwnRay | None
) -> int:
    from scp_ray.cli.searching import search
    from scp_ray.tune.search_sweep import Standing, standing

    def look_up(_: list[Arm]) -> tuple[Standing, bool]:
        found = standing(config, ledger, retry_failed=options.retry_failed)
        return found, not found.over

    _, before = _ready(options, config, ledger, look_up)
    return search(options, config, before, ledger, lease, place)


def _run_held(
    options: argparse.Namespace, config: SweepConfig, ledger: Ledger, lease: Lease, place: str | OwnRay | None
) -> int:
    from scp_ray.tracking.apart import Apart
    from scp_ray.tune.progress import Console
    from scp_ray.tune.space import plan_jobs
    from scp_ray.tune.sweep import run_sweep

    def compare(arms: list[Arm]) -> tuple[Plan, bool]:
        found = plan_jobs(arms, ledger, retry_failed=options.retry_failed)
        return found, bool(found.to_do)

    arms, plan = _ready(options, config, ledger, compare)
    tell_plan(plan, arms, config.keep_models)
    warn_at_chance(plan, ledger)
    rerun = command_line(options, "sweep", "--retry-failed")
    sinks: list[Sink] = []
    if plan.to_do:
        console, fill = Console(plan), shlex.join(["scp-ray", "track", str(ledger.root)])
        sinks = [console, Apart(ledger, fill, console.note)]
    outcome = run_sweep(config, arms, ledger, lease, plan, sinks, rerun=rerun, place=place, wait_s=options.wait)
    if options.json:
        summary = plan_summary(plan, ledger.root) | {
            "finished": outcome.done,
            "failed": {key: failure["reason"] for key, failure in outcome.failures.items()},
            "interrupted": outcome.interrupted,
        }
        print_json(summary)
    tell_outcome(outcome, ledger.root, rerun)
    if outcome.interrupted:
        return signals.EXIT_CODE
    return 1 if outcome.failures else 0
