"""Base models that guess: whatever starts from one has no gap to repair, and no FATE."""

from __future__ import annotations

from collections.abc import Mapping

from scp_ray.ledger import Ledger
from scp_ray.ledger.records import Row
from scp_ray.tune.space import Plan

MOST_NAMED = 12


def chance_warning(rows: Mapping[str, Row]) -> str:
    """One warning of all base models at chance, given their rows by name; empty where there is none."""
    weak = {name: _accuracies(row) for name, row in rows.items() if _guesses(row)}
    if not weak:
        return ""
    names = list(weak)
    if len(weak) == 1:
        told = f"{names[0]} is at chance: {weak[names[0]]}"
    else:
        more = f"; and {len(weak) - MOST_NAMED} more" if len(weak) > MOST_NAMED else ""
        listed = "; ".join(f"{name} ({weak[name]})" for name in names[:MOST_NAMED])
        told = f"{len(weak)} of {len(rows)} base models are at chance: {listed}{more}"
    return (
        f"warning: {told}. A constant classifier has gap 0 and no FATE; train longer (trial.train.epochs) or with "
        "another lr before reading anything into this sweep."
    )


def planned_warning(plan: Plan, ledger: Ledger) -> str:
    """The same of the base models that a plan builds on and the ledger holds."""
    return chance_warning({job.label: ledger.base_row(job.id) for job in plan.done if job.trial is None})


def _guesses(row: Row) -> bool:
    chance = 1 / row["num_classes"]
    # two standard errors of a guesser's accuracy on so many images
    doubt = 2 * (chance * (1 - chance) / row["val_n"]) ** 0.5
    return bool(row["val_balanced_accuracy"] <= chance + doubt)


def _accuracies(row: Row) -> str:
    return f"balanced accuracy {row['val_balanced_accuracy']:.3f}, guessing gives {1 / row['num_classes']:.3f}"
