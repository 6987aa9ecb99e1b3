"""What a sweep has taken, from the seconds that its rounds have recorded."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.page.words import counted


@dataclass(frozen=True)
class Cost:
    """Of all that the ledger holds, base models included."""

    gpu_hours: float
    cpu_hours: float  # of rounds without a GPU: hours times torch threads
    bases: int
    trials: int

    @property
    def words(self) -> str:
        """ "0.6 GPU-hours for 12 trials and 3 base models"."""
        parts = [f"{_hours(self.gpu_hours)} GPU-hours"] if self.gpu_hours else []
        parts += [f"{_hours(self.cpu_hours)} CPU-hours"] if self.cpu_hours or not parts else []
        return f"{' and '.join(parts)} for {counted(self.trials, 'trial')} and {counted(self.bases, 'base model')}"


def cost_of(sweep: Sweep) -> Cost | None:
    """Hours of training, scoring and evaluating that were kept; None where no seconds were recorded.

    A trial that shares a GPU counts its share. What a killed run had done since its last checkpoint is not in it, nor
    is the time that workers waited.
    """
    own = sweep.rounds[sweep.rounds["round"] > 0] if len(sweep.rounds) else sweep.rounds
    tables = [table for table in (own, sweep.bases) if "seconds" in table]
    if not tables:
        return None
    wanted = sweep.definition.get("definition", {}).get("resources", {}).get("gpus_per_trial", "auto")
    share = float(wanted) if isinstance(wanted, int | float) and wanted > 0 else 1.0
    rows = pd.concat([table[["seconds", "device", "threads"]] for table in tables])
    hours, gpu = rows["seconds"] / 3600, rows["device"].str.startswith("cuda")
    return Cost(
        gpu_hours=float(hours[gpu].sum() * share),
        cpu_hours=float((hours * rows["threads"])[~gpu].sum()),
        bases=len(sweep.bases),
        trials=int(own["trial_id"].nunique()) if len(own) else 0,
    )


def duration(seconds: float) -> str:
    """ "48 s", "12 min", "3.4 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _hours(hours: float) -> str:
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"
