"""Say where a sweep is: per arm the seeds and rounds that are done, what failed, and who is at work."""

from __future__ import annotations

import argparse
import time
from typing import Any

from scp_ray.cli.output import print_json

_STATUSES = ("done", "stopped", "started", "waiting", "failed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray status``."""
    parser.add_argument("dir", metavar="DIR", help="a sweep's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Read the ledger; nothing is written and no Ray is needed. Exit code 1 where something failed."""
    from scp_ray.ledger import load_sweep
    from scp_ray.ledger.lease import living_driver

    sweep = load_sweep(options.dir)
    trials, failures, needed = sweep.trials, sweep.failures(), sweep.base_ids
    driver = living_driver(sweep.ledger.driver)
    summary: dict[str, Any] = {
        "sweep": str(sweep.ledger.root),
        "driver": driver and {"host": driver["host"], "pid": driver["pid"]},
        "bases": {"done": sum(sweep.ledger.base_done(base_id) for base_id in needed), "of": len(needed)},
        "trials": {name: int((trials["status"] == name).sum()) for name in _STATUSES},
        "rounds": {
            "done": int(trials["rounds_done"].clip(upper=trials["rounds_asked"]).sum()),
            "of": int(trials["rounds_asked"].sum()),
        },
        "failures": [{"id": key, **failure} for key, failure in failures.items()],
    }
    if options.json:
        print_json(summary)
    else:
        _print(summary, trials, driver)
    return 1 if failures else 0


def _print(summary: dict[str, Any], trials: Any, driver: dict[str, Any] | None) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in summary["trials"].items() if count)
    print(f"{summary['sweep']}")
    if driver:
        print(
            f"running: process {driver['pid']} on {driver['host']}, "
            f"last heard of {max(0, time.time() - driver['heartbeat']):.0f} s ago"
        )
    else:
        print("not running")
    print(f"base models: {summary['bases']['done']} of {summary['bases']['of']}")
    print(f"trials: {counts}; rounds: {summary['rounds']['done']} of {summary['rounds']['of']}\n")
    width = max(len(arm) for arm in trials["arm"])
    for arm, rows in trials.groupby("arm", sort=False):
        seeds = "  ".join(f"{row.seed}: {row.status} {row.rounds_done}/{row.rounds_asked}" for row in rows.itertuples())
        print(f"{arm:<{width}}  {seeds}")
    for failure in summary["failures"]:
        print(f"\nfailed: {failure['label']}: {failure['reason']}\n  try again: {failure['rerun']}")
