"""The miniature trial, recorded in this process, and its space as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from miniature import SPACE, TRIAL

from scp_ray.config import ResolvedTrial, TrialConfig, resolve
from scp_ray.ledger import Ledger
from scp_ray.tune.record import record_base, record_trial

CPU = torch.device("cpu")


def trial(**changes: Any) -> ResolvedTrial:
    return resolve(TrialConfig.from_dict(TRIAL | changes))


def record_all(wanted: ResolvedTrial, root: Path) -> Ledger:
    ledger = Ledger(root)
    for base_id, config in wanted.bases().items():
        if not ledger.base_done(base_id):
            record_base(config, ledger, device=CPU, checkpoint_s=0)
    list(record_trial(wanted, ledger, device=CPU, checkpoint_s=0))
    return ledger


def record(root: Path) -> None:
    record_all(trial(), root)


def space_file(folder: Path) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return path
