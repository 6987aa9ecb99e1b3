"""A ledger of many trials, each with the numbers of one small real one: for what reads ledgers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.scale_costs import TRIAL
from scp_ray.config import SweepConfig
from scp_ray.ledger import Ledger
from scp_ray.ledger.definition import define
from scp_ray.ledger.files import write_json, write_table
from scp_ray.ledger.rows import base_row, copied_row, round_row, rows_table
from scp_ray.trial import BaseModel, Result, run_trial, train_base

SEEDS = 5


def planted_ledger(root: Path, trials: int) -> Path:
    """So many trials of one round, five seeds an arm, below ``root``; the folder."""
    lr = [round(1e-3 + 1e-6 * index, 9) for index in range(max(1, trials // SEEDS))]
    raw: dict[str, Any] = {"name": f"planted-{trials}", "trial": TRIAL, "grid": {"fine_tune.lr": lr}}
    config = SweepConfig.from_dict(raw | {"seeds": list(range(SEEDS))})
    arms = config.resolved_arms()
    ledger = Ledger(root / config.name)
    write_json(ledger.definition_path, define(config, arms, None))
    first = arms[0].trials[0]
    data = first.config.dataset.load()
    *_, base = train_base(first.config)
    assert isinstance(base, Result)
    *_, result = run_trial(first.config, BaseModel(base.learner.state_dict(), base.val.report))
    assert isinstance(result, Result)
    of_base = base_row(first.config, first.base_id, base, "cpu")
    for trial in arms[0].trials:
        ledger.commit_base(trial.base_id, of_base | {"base_id": trial.base_id, "seed": trial.config.seed}, base, data)
    for trial in (each for arm in arms for each in arm.trials):
        own = of_base | {"seed": trial.config.seed}
        rows = [copied_row(trial, own, base.val.report), round_row(trial, own, base.val.report, result, "cpu")]
        if trial is first:
            ledger.start_trial(trial.trial_id, rows[0])
            ledger.commit_round(trial.trial_id, rows[1], result, data)
            continue
        for kind in ("channels", "predictions", "evidence"):
            shutil.copyfile(*(str(ledger.table_path(kind, each.trial_id)) for each in (first, trial)))
        write_table(ledger.table_path("rounds", trial.trial_id), rows_table(rows))
    return Path(str(ledger.root))


def read_all(folder: Path) -> int:
    """Every frame of a sweep, from the disk; how many rows they have."""
    from scp_ray.ledger import load_sweep

    sweep = load_sweep(folder)
    return sum(len(frame) for frame in (sweep.rounds, sweep.trials, sweep.bases, sweep.channels, sweep.evidence))
