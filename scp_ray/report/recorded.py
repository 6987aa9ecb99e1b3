"""What figures of rounds are drawn of: a sweep from its folder, or what MLflow alone holds of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa

from scp_ray.ledger import Sweep
from scp_ray.ledger.evidence import SCHEMA


class Tracked(Protocol):
    """A sweep as it is read back from MLflow: its rounds and trials, and of its arms what the runs' tags say."""

    @property
    def rounds(self) -> pd.DataFrame:
        """A row per trial and round."""

    @property
    def trials(self) -> pd.DataFrame:
        """A row per arm and seed."""

    @property
    def arms(self) -> list[dict[str, Any]]:
        """label, settings and config of each arm."""


class Recorded(Protocol):
    """As much of a ``Sweep`` as figures of rounds need."""

    @property
    def rounds(self) -> pd.DataFrame:
        """A row per trial and round."""

    @property
    def trials(self) -> pd.DataFrame:
        """A row per arm and seed."""

    @property
    def evidence(self) -> pd.DataFrame:
        """A row per trial, round, split and metric; none where there is none."""

    @property
    def definition(self) -> dict[str, Any]:
        """sweep.json: its arms at least."""


@dataclass(frozen=True)
class RoundsAlone:
    """Rounds without evidence: figures have no noise floors, and intervals without the images' share."""

    rounds: pd.DataFrame
    trials: pd.DataFrame
    evidence: pd.DataFrame
    definition: dict[str, Any]


def recorded(sweep: Recorded | Tracked) -> Recorded:
    """A sweep from its folder is itself; one from MLflow gets the arms that its runs name, and no evidence."""
    if isinstance(sweep, Sweep | RoundsAlone):
        return sweep
    tracked: Any = sweep
    none = SCHEMA.empty_table().add_column(0, "trial_id", pa.array([], pa.string())).to_pandas()
    return RoundsAlone(tracked.rounds, tracked.trials, none, {"arms": tracked.arms})


def no_evidence(sweep: Recorded) -> str:
    """Why a figure has no noise floors, for its caption."""
    if isinstance(sweep, RoundsAlone):
        return "MLflow holds no evidence, the sweep's own folder does"
    return "the ledger has no evidence"
