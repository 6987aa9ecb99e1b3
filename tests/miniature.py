"""A whole trial that takes a second: tiny network, small generated pictures, two rounds of two epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scp_ray.ledger.records import CIRCUMSTANCES

TRIAL: dict[str, Any] = {
    "dataset": {"name": "synthetic", "image_size": 32, "train": 96, "val": 64, "test": 64},
    "backbone": "tiny",
    "pr_c": 0.1,
    "rounds": 2,
    "train": {"epochs": 2, "batch_size": 8, "lr": 0.02, "augment": "flips"},
    "fine_tune": {"epochs": 2, "batch_size": 16, "lr": 0.01, "augment": "flips"},
}
SPACE: dict[str, Any] = {
    "name": "miniature",
    "trial": TRIAL,
    "seeds": [0],
    "resources": {"cpus_per_trial": 1, "device": "cpu"},
}


def same_rows(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """Equal to the last bit in every column but those that say when, where and how fast."""
    assert list(left.columns) == list(right.columns)
    assert len(left) == len(right)
    for column in left.columns:
        if column in CIRCUMSTANCES:
            continue
        for a, b in zip(left[column], right[column], strict=True):
            same = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b or (pd.isna(a) and pd.isna(b))
            assert same, f"{column}: {a!r} is not {b!r}"


KINDS = ("rounds", "channels", "predictions", "evidence")


def same_ledgers(left: Path, right: Path, kinds: tuple[str, ...] = KINDS) -> None:
    """The same trials with the same rows in both."""
    for kind in kinds:
        files = sorted(path.name for path in (left / kind).glob("*.parquet"))
        assert files == sorted(path.name for path in (right / kind).glob("*.parquet"))
        assert files
        for name in files:
            same_rows(pd.read_parquet(left / kind / name), pd.read_parquet(right / kind / name))
