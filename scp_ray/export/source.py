"""Which model is exported: a trial's selected round, and the weights that the ledger keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import Tensor

from scp_ray.config import TrialConfig
from scp_ray.errors import ConfigError, LedgerError
from scp_ray.ledger.files import read_json
from scp_ray.ledger.weights import read_weights

if TYPE_CHECKING:
    from scp_ray.ledger import Sweep

State = dict[str, Tensor]


@dataclass(frozen=True)
class Chosen:
    """A trial of a sweep at the round that speaks for it."""

    sweep: Sweep
    arm: dict[str, Any]  # as sweep.json has it
    seed: int
    trial_id: str
    base_id: str
    round: int
    status: str

    @property
    def config(self) -> TrialConfig:
        """Of this seed."""
        return TrialConfig.from_dict(self.arm["config"] | {"seed": self.seed})

    @property
    def row(self) -> dict[str, Any]:
        """The round's row of the ledger."""
        return self.row_of(self.round)

    def row_of(self, index: int) -> dict[str, Any]:
        """A round's row. Raises LedgerError where there is none."""
        rounds = self.sweep.rounds
        rows = rounds[(rounds["trial_id"] == self.trial_id) & (rounds["round"] == index)].to_dict("records")
        if not rows:
            raise LedgerError(f"{self.sweep.ledger.root} has no round {index} of trial {self.trial_id}.")
        return {str(key): value for key, value in rows[0].items()}

    @property
    def predictions(self) -> pd.DataFrame:
        """The round's predictions on validation."""
        rows = self.sweep.round_predictions(self.trial_id, self.round)
        return rows[rows["split"] == "val"]


def choose(sweep: Sweep, trial: str, *, arm: str | None = None, seed: int | None = None) -> Chosen:
    """The trial that ``trial`` names: its id, or the beginning of it where only one begins so.

    Args:
        arm: the label of an arm, which then says which trial it is, with the seed where it has several.

    Raises ConfigError where none or several fit, or where the trial has not begun.
    """
    trials = sweep.trials
    if arm is None:
        found = trials[trials["trial_id"].str.startswith(trial)]
    else:
        found = trials[trials["arm"] == arm]
        found = found if seed is None else found[found["seed"] == seed]
    ids = list(dict.fromkeys(found["trial_id"]))
    if len(ids) != 1:
        listed = found if ids else trials
        lines = [f"{row.trial_id}  {row.arm}, seed={row.seed}" for row in listed.head(20).itertuples()]
        more = f"\n... and {len(listed) - 20} more" if len(listed) > 20 else ""
        said = f"{len(ids)} trials fit {trial!r}" if ids else f"no trial fits {trial!r}"
        raise ConfigError(
            f"{said}. Name one by its id, the beginning of it, or arm and seed:\n{chr(10).join(lines)}{more}"
        )
    row = found.iloc[0]
    if pd.isna(row["selected_round"]):
        raise ConfigError(f"trial {ids[0]} ({row['arm']}, seed={row['seed']}) is {row['status']}: it has no round yet.")
    entry = next(each for each in sweep.definition["arms"] if each["label"] == row["arm"])
    index, status = int(row["selected_round"]), str(row["status"])
    return Chosen(sweep, entry, int(row["seed"]), ids[0], str(row["base_id"]), index, status)


def kept_state(chosen: Chosen, recompute: str) -> State:
    """The weights, masks included. Round 0 is the base model's, which is always kept.

    Args:
        recompute: the command that makes them again.

    Raises LedgerError where they were not kept, or are those of another round.
    """
    ledger = chosen.sweep.ledger
    if chosen.round == 0:
        return ledger.base_state(chosen.base_id)
    folder = ledger.root / "models" / chosen.trial_id
    if not (folder / "model.json").exists():
        raise LedgerError(
            f"the weights of trial {chosen.trial_id} ({chosen.arm['label']}, seed={chosen.seed}), round "
            f"{chosen.round}, were not kept (keep_models). Make them again from its base model, which is: {recompute}\n"
            "A sweep keeps every trial's with --set keep_models=selected."
        )
    kept = int(read_json(folder / "model.json")["round"])
    if kept != chosen.round:
        raise LedgerError(
            f"models/{chosen.trial_id} holds round {kept}, and round {chosen.round} is selected (the rule of an arm "
            f"that shares this trial has changed, or the trial goes on). Make its weights again: {recompute}"
        )
    return read_weights(folder / "model.safetensors")
