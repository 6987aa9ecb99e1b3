"""The rows of a sweep, and what they say: read without torch, which takes a process seconds and 700 MB.

A tracker's process and whoever else only tells what is recorded needs no more of the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from scp_ray.errors import LedgerError
from scp_ray.ledger.files import read_arrow, read_failure, written
from scp_ray.ledger.lease import holds
from scp_ray.places import AnyPath, any_path

Row = dict[str, Any]

# Columns that tell when, where and how fast: two runs of one trial differ in these alone. Where one of them was short
# of memory, micro_batch and eval_batch say so, and then its numbers may differ as well.
CIRCUMSTANCES = (
    *("time", "node", "device", "threads", "peak_memory_mb", "seconds"),
    *("seconds_fit", "seconds_evaluate", "seconds_score", "seconds_test"),
    *("micro_batch", "eval_batch"),
)
EARLY = "asha: "  # in stop_reason, before why a search stopped the trial
KEPT = 16  # a process keeps what it has read of so many base models: every trial of a worker begins at the same few


def rows_done(rows: Sequence[Mapping[str, Any]], rounds: int, *, searching: bool = False) -> bool:
    """Whether a trial's rows reach the rounds asked for, or its loop has ended before.

    One that a search has stopped early is done to a search (``searching``); whoever else asks for it wants it whole.
    """
    if not rows or int(rows[-1]["round"]) >= rounds:
        return bool(rows)
    return bool(rows[-1]["stopped"]) and (searching or not stopped_early(rows[-1]))


def stopped_early(row: Mapping[str, Any]) -> str:
    """Why a search stopped a trial after this row, its last; empty where it did not."""
    return str(row.get("stop_reason", "")).partition(EARLY)[2]


class Records:
    """What a sweep's folder, a path or a URI, holds of trials, base models and failures.

    With a driver's token, ``check_lease`` tells whether that driver still holds the sweep.
    """

    def __init__(self, root: AnyPath | str, *, token: str | None = None) -> None:
        self.root = any_path(root).absolute()
        self.driver = self.root / "driver.json"
        self.token = token

    def find(self, pattern: str) -> list[AnyPath]:
        """The files below the folder that match, sorted."""
        return sorted(self.root.glob(pattern))

    def check_lease(self) -> None:
        """Raises LedgerError where this writer's driver has lost the sweep."""
        if self.token is not None and not holds(self.driver, self.token):
            raise LedgerError(f"the driver of this trial no longer holds {self.root}; nothing was written.")

    def base_folder(self, base_id: str) -> AnyPath:
        """bases/<base_id>/."""
        return self.root / "bases" / base_id

    def base_done(self, base_id: str) -> bool:
        """Whether its row is there."""
        return (self.base_folder(base_id) / "rounds.parquet").exists()

    def base_row(self, base_id: str) -> Row:
        """Its round 0."""
        path = self.base_folder(base_id) / "rounds.parquet"
        return dict(_base_row(path, written(path)))

    def table_path(self, kind: str, trial_id: str) -> AnyPath:
        """rounds|channels|predictions|evidence/<trial_id>.parquet."""
        return self.root / kind / f"{trial_id}.parquet"

    def rounds(self, trial_id: str) -> list[Row]:
        """Its committed rounds in order; empty where there is none."""
        path = self.table_path("rounds", trial_id)
        return _rows(path) if path.exists() else []

    def failures(self) -> dict[str, Row]:
        """By trial or base id."""
        return {path.stem: read_failure(path) for path in self.find("failures/*.json")}


@lru_cache(maxsize=KEPT)
def _base_row(path: AnyPath, written: object) -> Row:
    return _rows(path)[0]


def _rows(path: AnyPath) -> list[Row]:
    rows: list[Row] = read_arrow(path).to_pylist()
    return rows
