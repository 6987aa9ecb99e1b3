"""Say what would keep a sweep from running, here or on a cluster, and what to mend.

Without --address this machine is looked at and no Ray is started. Exit code 3 where something cannot run.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scp_ray.cli.output import print_json
from scp_ray.cli.spaces import add_address_argument

if TYPE_CHECKING:
    from scp_ray.places import AnyPath
    from scp_ray.tune.doctor import Findings

_SIZES = ("memory_free", "store_free", "out_free")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray doctor``."""
    add_address_argument(parser, ": look at each of its nodes")
    parser.add_argument("--out", default="results", metavar="DIR", help="where results are to go (default: results)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Look, tell, and exit with 3 where something cannot run."""
    from scp_ray.tracking.reach import trouble_with
    from scp_ray.tracking.secrets import redacted
    from scp_ray.tune.doctor import examine

    found = examine(options.address, options.out)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    tracker = redacted(uri) if uri else _own_tracker(found.storage)
    if uri and (trouble := trouble_with(uri)):
        found.hints.append(trouble)
    storage = None if found.storage is None else str(found.storage)
    if options.json:
        print_json(
            {"nodes": found.nodes, "token": found.token, "storage": storage, "tracker": tracker}
            | {"cannot_run": found.faults, "hints": found.hints}
        )
    else:
        _print(found, storage, tracker)
    return 3 if found.faults else 0


def _own_tracker(storage: AnyPath | None) -> str:
    from scp_ray.ledger.live import on_network

    if storage is None or (isinstance(storage, Path) and not on_network(storage)):
        return "an SQLite file in the sweep's folder"
    return "an SQLite file in the driver's scratch folder (SCP_RAY_SCRATCH), copied to the sweep's folder"


def _print(found: Findings, storage: str | None, tracker: str) -> None:
    title = ("node", "CPUs", "GPUs: Ray, torch", "memory free", "store free", "out free", "versions")
    rows = [title, *(_row(node) for node in found.nodes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    token = found.token["from"] or "none"
    print(f"\nRay token: {token}" + (f", mode {found.token['file_mode']}" if found.token["file_mode"] else ""))
    print(f"storage: {storage or 'none'}\ntracker: {tracker}\n")
    for fault in found.faults:
        print(f"cannot run: {fault}")
    for hint in found.hints:
        print(f"hint: {hint}")
    if not found.faults and not found.hints:
        print("Nothing to mend.")


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    versions = ", ".join(f"{name} {version}" for name, version in node["versions"].items())
    sizes = ["?" if node[key] is None else f"{node[key] / 1e9:.1f} GB" for key in _SIZES]
    return (node["name"], f"{node['cpus']:g}", f"{node['gpus']:g}, {node['torch_gpus']}", *sizes, versions)
