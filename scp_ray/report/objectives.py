"""What a sweep's configurations were judged by, and each seed's numbers at its selected round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scp_ray.config.objectives import Constraint, Objective
from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep
from scp_ray.ledger.models import selected_rounds

PLANE = [Objective("val_f1", "max"), Objective("val_eodd", "min")]  # of a sweep that names no objectives


def search_block(definition: Mapping[str, Any]) -> dict[str, Any] | None:
    """The search that a sweep's record was made by; None where it is a grid."""
    block = definition.get("definition", {}).get("search")
    return dict(block) if block else None


def objectives_of(definition: Mapping[str, Any]) -> list[Objective]:
    """The search's, else F1 against Eodd."""
    named = (search_block(definition) or {}).get("objectives", [])
    return [Objective(**entry) for entry in named] or PLANE


def constraints_of(definition: Mapping[str, Any]) -> list[Constraint]:
    """The search's; none of a grid."""
    return [Constraint(**entry) for entry in (search_block(definition) or {}).get("constraints", [])]


def slack_of(limit: Constraint, rows: pd.DataFrame) -> pd.Series:
    """By how much each seed's row keeps the bound; negative where it does not, NaN where that is undefined."""
    references = rows[f"{limit.base}:{limit.metric}"] if limit.base else rows[limit.metric]
    pairs = zip(rows[limit.metric], references, strict=True)
    return pd.Series([-limit.violation(value, reference) for value, reference in pairs], rows.index, dtype=float)


def seed_rows(sweep: Sweep) -> pd.DataFrame:
    """A row per configuration and seed that has begun: its trial and its selected round.

    Beside each metric stand ``base:<metric>``, of the trial's own round 0, and ``vanilla:<metric>``, of the vanilla
    model of the same seed. Raises LedgerError where no round has been recorded yet.
    """
    rows = selected_rounds(sweep)
    if not len(rows):
        raise LedgerError(f"{sweep.ledger.root} has no rounds yet. See scp-ray status {sweep.ledger.root}")
    first = sweep.rounds[sweep.rounds["round"] == 0].set_index("trial_id")
    vanilla = sweep.bases.set_index("base_id") if len(sweep.bases) else sweep.bases
    metrics = [name for name in first.columns if name.startswith("val_")]
    beside = {f"base:{name}": rows["trial_id"].map(first[name]) for name in metrics}
    known = [name for name in metrics if name in vanilla.columns]
    beside |= {f"vanilla:{name}": rows["vanilla_id"].map(vanilla[name]) for name in known}
    nothing = pd.Series(float("nan"), rows.index)
    beside |= {f"vanilla:{name}": nothing for name in metrics if name not in known}
    return pd.concat([rows, pd.DataFrame(beside)], axis=1)
