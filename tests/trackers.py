"""A small sweep's ledger, one that grows as if a sweep were going on, a tracker that hears of it, and what it shows."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from miniature import SPACE

from scp_ray.config import SweepConfig
from scp_ray.ledger import Ledger
from scp_ray.ledger.definition import define
from scp_ray.ledger.files import replace_rounds, write_json
from scp_ray.ledger.rows import rows_table
from scp_ray.tracking.background import Background
from scp_ray.tracking.mlflow import MLflowRuns
from scp_ray.tune.record import record_base, record_trial

SWEEP: dict[str, Any] = SPACE | {"grid": {"pr_c": [0.1, 0.2]}}


def make_ledger(root: Path, space: dict[str, Any] = SWEEP) -> Ledger:
    """The trials of a search space, run in this process: by default one base model and two trials of two rounds."""
    config = SweepConfig.from_dict(space)
    for data_set in config.data_sets():
        data_set.build()
    arms, ledger = config.resolved_arms(), Ledger(root)
    write_json(ledger.definition_path, define(config, arms, None))
    for arm in arms:
        for trial in arm.trials:
            for base_id, base in trial.bases().items():
                if not ledger.base_done(base_id):
                    record_base(base, ledger, device=torch.device("cpu"))
            list(record_trial(trial, ledger, device=torch.device("cpu")))
    return ledger


def begun(source: Ledger, root: Path, name: str) -> Ledger:
    """A sweep of another name, of which nothing is done yet."""
    write_json(root / "sweep.json", source.definition() | {"name": name})
    return Ledger(root)


def going_on(source: Ledger, target: Ledger) -> Iterator[dict[str, Any]]:
    """Commit one row after the other of ``source`` to ``target``."""
    for folder in (source.root / "bases").iterdir():
        shutil.copytree(folder, target.base_folder(folder.name))
        yield target.base_row(folder.name)
    for path in sorted((source.root / "rounds").iterdir()):
        for row in source.rounds(path.stem):
            replace_rounds(target.table_path("rounds", path.stem), rows_table([row]), [row["round"]])
            yield row


def content(database: Path, name: str, *, circumstances: bool = True) -> dict[str, Any]:
    """What an MLflow database holds of a sweep by our ids: status, parameters, our tags, the points of every metric."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        query = """select run_uuid, status from runs join experiments using (experiment_id)
                   where experiments.name = ? and runs.lifecycle_stage = 'active'"""
        statuses = dict(connection.execute(query, [name]).fetchall())
        tags, params, metrics = (
            {run: connection.execute(f"select {what} where run_uuid = ?", [run]).fetchall() for run in statuses}
            for what in ("key, value from tags", "key, value from params", "key, step, value from metrics")
        )
    ids = {run: dict(tags[run])["scp_ray.id"] for run in statuses}
    shown: dict[str, Any] = {}
    for run, status in statuses.items():
        parent = dict(tags[run]).get("mlflow.parentRunId")
        key = ids[run] if parent else "the sweep"
        assert key not in shown, "one run for each"
        shown[key] = {
            "parent": parent and ids[parent].startswith(name),
            "status": status,
            "params": dict(params[run]),
            # the sweep's id holds its name and the moment it began; files are what `track` alone brings
            "tags": {
                k: v
                for k, v in tags[run]
                if k.startswith("scp_ray.") and not v.startswith(f"{name}-") and k != "scp_ray.artifacts"
            },
            "metrics": sorted(p for p in metrics[run] if circumstances or not p[0].startswith("circumstances/")),
        }
    return shown


def live(
    source: Ledger, sweep: Ledger, uri: str, said: list[str], at: Callable[[int], None] = lambda number: None
) -> Background:
    """Tell a tracker of a sweep that goes on; ``at`` is called before each row's number."""
    told = Background(lambda: MLflowRuns(uri, sweep.root), sweep, f"scp-ray track {sweep.root}", said.append)
    told.open(sweep.definition())
    for number, row in enumerate(going_on(source, sweep)):
        at(number)
        told.round(row)
    return told
