"""What configurations are judged by: objectives, constraints, and each seed's numbers at its selected round."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep
from scp_ray.ledger.models import selected_rounds

# of a sweep that names no objectives
PLANE = [{"metric": "val_f1", "direction": "max"}, {"metric": "val_eodd", "direction": "min"}]


@dataclass(frozen=True)
class Objective:
    """A column of the rounds table, and which way is better."""

    name: str
    direction: str  # max | min

    @property
    def sign(self) -> float:
        """Times a value it is lower where that is better."""
        return -1.0 if self.direction == "max" else 1.0

    @property
    def title(self) -> str:
        """ "Eodd", "F1", "FATE of Eodd (vanilla)": what a reader calls it."""
        name = self.name.removeprefix("val_")
        if found := re.fullmatch(r"fate_(\w+?)_(base|vanilla)", name):
            return f"FATE of {found[1].capitalize()} ({found[2]})"
        return name.replace("_", " ").capitalize() if name.startswith(("eo", "f1")) else name.replace("_", " ")


@dataclass(frozen=True)
class Constraint:
    """``val_f1 >= 0.97 * vanilla``: holds where the seeds' mean of value minus bound is on the right side."""

    name: str
    sign: str  # >= | <=
    factor: float
    of: str | None = None  # base | vanilla; None: the factor is the bound itself

    @property
    def text(self) -> str:
        """ "val_f1 >= 0.97 * vanilla"."""
        return f"{self.name} {self.sign} {self.factor:g}" + (f" * {self.of}" if self.of else "")

    def slack(self, rows: pd.DataFrame) -> pd.Series:
        """By how much each seed's row keeps the bound; negative where it does not, NaN where that is undefined."""
        bound = self.factor * (rows[f"{self.of}:{self.name}"] if self.of else 1.0)
        return (rows[self.name] - bound) * (1 if self.sign == ">=" else -1)


def search_block(definition: Mapping[str, Any]) -> dict[str, Any] | None:
    """The search that a sweep's record was made by; None where it is a grid."""
    block = definition.get("definition", {}).get("search")
    return dict(block) if block else None


def objectives_of(definition: Mapping[str, Any]) -> list[Objective]:
    """The search's, else F1 against Eodd."""
    named = (search_block(definition) or {}).get("objectives") or PLANE
    return [Objective(entry["metric"], entry["direction"]) for entry in named]


def constraints_of(definition: Mapping[str, Any]) -> list[Constraint]:
    """The search's; none of a grid."""
    named = (search_block(definition) or {}).get("constraints", [])
    return [Constraint(entry["metric"], entry["sign"], entry["factor"], entry["base"]) for entry in named]


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
