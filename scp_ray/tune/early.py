"""Early stopping of a search's runs, decided on what the ledger holds. The driver asks when a round is committed."""

from __future__ import annotations

from collections.abc import Sequence

from scp_ray.config import ResolvedTrial
from scp_ray.config.search import Halving, SearchConfig
from scp_ray.errors import DivergedError
from scp_ray.ledger import Ledger
from scp_ray.ledger.records import Row
from scp_ray.tune.halving import Rungs
from scp_ray.tune.measures import measure
from scp_ray.tune.racing import Measured


class EarlyStop:
    """Which runs go on. Before a search goes on, ``recall`` tells what was reached before."""

    def __init__(self, rule: Halving, search: SearchConfig, ledger: Ledger, rounds: int) -> None:
        self._search, self._ledger = search, ledger
        self._rungs = Rungs(rule, rounds)

    def recall(self, trial: ResolvedTrial) -> None:
        """What a trial was worth at every rung that its rows in the ledger have come to."""
        rows = self._ledger.rounds(trial.trial_id)
        for rung in self._rungs.rungs:
            if rung < len(rows) and (measured := self._worth(trial, rows[: rung + 1])):
                self._rungs.note(rung, trial.config.seed, trial.trial_id, measured)

    def reason(self, trial: ResolvedTrial, row: Row) -> str:
        """Why a trial stops after this row, its last in the ledger; empty where it goes on.

        One that has no finite number there goes on: whether it fails is for its selected round to say.
        """
        rung, seed = row["round"], trial.config.seed
        if rung not in self._rungs.rungs:
            return ""
        rows = self._ledger.rounds(trial.trial_id)
        if rows[-1]["round"] > rung:  # told once more after an interruption
            return ""
        measured = self._worth(trial, rows)
        if measured is None:
            return ""
        self._rungs.note(rung, seed, trial.trial_id, measured)
        place, known, last = self._rungs.place(rung, seed, trial.trial_id)
        return "" if place <= last else f"place {place} of {known} after round {rung}; {last} of them went on"

    def _worth(self, trial: ResolvedTrial, rows: Sequence[Row]) -> Measured | None:
        try:
            return measure(trial, rows, self._ledger.base_row(trial.vanilla_id), self._search)
        except DivergedError:
            return None
