"""What ``scp-ray trial`` says of a trial and its rounds, with what a number needs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scp_ray.config import ResolvedTrial
    from scp_ray.ledger import Ledger
    from scp_ray.ledger.records import Row


def title_line(row: Row) -> str:
    """Before the first round."""
    return f"validation, n = {row['val_n']:,} images, seed {row['seed']}; floor: Eodd's noise floor; FATE: that of Eodd"


def round_line(row: Row, trial: ResolvedTrial, ledger: Ledger) -> str:
    """F1, Eodd with its noise floor, and FATE, or why it has none."""
    floor = _floor(row, trial, ledger)
    beside = "" if floor is None else f" (floor {floor:.4f})"
    fate = row["val_fate_eodd_base"]
    told = f"{fate:+.4f}" if fate == fate else f"undefined: {_reason(row)}"
    return f"round {row['round']}: F1 {row['val_f1']:.4f}, Eodd {row['val_eodd']:.4f}{beside}, FATE {told}"


def selected_line(trial: ResolvedTrial, rows: Sequence[Row]) -> str:
    """Which round speaks for the trial, and by which rule."""
    from scp_ray.tune.record import selected_round

    return f"selected: round {selected_round(trial, rows)}, by {trial.config.select}"


def _floor(row: Row, trial: ResolvedTrial, ledger: Ledger) -> float | None:
    """None where there is none: more than two groups, or a ledger that is older than evidence."""
    from scp_ray.ledger.files import read_table

    base = ledger.base_folder(trial.base_id) / "evidence.parquet"
    path = ledger.table_path("evidence", trial.trial_id) if row["round"] else base
    if not path.exists():
        return None
    table = read_table(path)
    floors = table["floor_mean"][(table["round"] == row["round"]) & (table["metric"] == "eodd")]
    return float(floors.iloc[0]) if len(floors) else None


def _reason(row: Row) -> str:
    """``fate_reason`` holds one for each gap and baseline."""
    told = dict(part.split(": ", 1) for part in str(row.get("fate_reason") or "").split("; ") if ": " in part)
    return told.get("eodd_base", "a metric is undefined")
