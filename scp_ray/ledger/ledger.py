"""Where everything of a sweep lies, and in which order it is written.

Order of a round: state, model, predictions, evidence, channels, then the row of the rounds table, which is the commit
mark. What lies there without its row counts as not done and is written again.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from scp_ray.errors import DataError, LedgerError, StoreError
from scp_ray.ledger import bases
from scp_ray.ledger.definition import read_definition
from scp_ray.ledger.evidence import check_evidence, of_outputs
from scp_ray.ledger.files import (
    check_table,
    read_table,
    replace_rounds,
    write_json,
    write_table,
    written,
)
from scp_ray.ledger.records import EARLY, Records, Row
from scp_ray.ledger.rows import channels_table, predictions_table, rows_table
from scp_ray.ledger.states import States
from scp_ray.ledger.weights import read_weights, write_weights
from scp_ray.maths.report import FairnessReport
from scp_ray.maths.weight_ranking import layer_sparsity
from scp_ray.parts import ChannelScores, FairnessData
from scp_ray.places import AnyPath, any_path

if TYPE_CHECKING:
    from scp_ray.trial import Result


def sweep_folder(out: str, name: str) -> AnyPath:
    """DIR/<name>. Raises LedgerError for a URI that cannot be used."""
    return any_path(out) / name


class Ledger(Records):
    """A sweep's folder: a path or a URI. With a token, nothing is committed once another driver holds the sweep."""

    # -- the sweep ------------------------------------------------------------------------------------------------

    @property
    def definition_path(self) -> AnyPath:
        """sweep.json."""
        return self.root / "sweep.json"

    def definition(self) -> Row:
        """sweep.json. Raises LedgerError where it is missing, damaged or of another format."""
        return read_definition(self.definition_path)

    def check_data(self, key: str, sources: str, units: str) -> None:
        """Raises DataError where a data set is not the one of sweep.json; without a sweep.json there is none to be."""
        if not self.definition_path.exists():
            return
        path = self.definition_path
        known = _data_of(path, written(path))
        if key not in known:
            raise DataError(
                f"the tables on {platform.node()}, or the images that can be used there, are not those that the sweep "
                "was planned with. Give every node the same ones (scp-ray data check names what is missing)."
            )
        if known[key]["sources"] != sources:
            raise DataError(
                f"the images on {platform.node()} are not those that the sweep was planned with. Give every node the "
                "same ones, and leave them alone while a sweep runs."
            )
        if known[key].get("units", units) != units:
            raise DataError(
                f"the units (lesions, patients) on {platform.node()} are not those that the sweep was planned with. "
                "Give every node the same tables, and leave them alone while a sweep runs."
            )

    # -- base models ----------------------------------------------------------------------------------------------

    def commit_base(self, base_id: str, row: Row, result: Result, data: FairnessData) -> None:
        """Predictions, evidence, weights, row."""
        self.check_lease()
        folder = self.base_folder(base_id)
        outputs = {"val": result.val, "test": result.test}
        write_table(folder / "predictions.parquet", predictions_table(0, data, outputs))
        write_table(folder / "evidence.parquet", of_outputs(row, data, result.val))
        write_weights(folder / "model.safetensors", result.learner.state_dict())
        shares = layer_sparsity(result.learner)
        if any(shares.values()):  # FairPrune and OBD rank all layers together: where it was pruned says a lot
            write_table(folder / "sparsity.parquet", pa.table({"layer": [*shares], "pruned": [*shares.values()]}))
        write_table(folder / "rounds.parquet", rows_table([row]))

    def base_state(self, base_id: str) -> dict[str, Tensor]:
        """Its weights, masks and buffers."""
        return read_weights(self.base_folder(base_id) / "model.safetensors")

    def base_report(self, base_id: str, num_classes: int) -> FairnessReport:
        """Its validation report, from its stored predictions."""
        return bases.base_report(self.base_folder(base_id), num_classes)

    def scores(self, base_id: str, scores_id: str) -> ChannelScores | None:
        """First scores of a base model, where an arm has made them."""
        path = self.base_folder(base_id) / "scores" / f"{scores_id}.parquet"
        if not path.exists():
            return None
        try:
            table = read_table(path)
        except StoreError:
            raise
        except LedgerError:
            return None  # damaged: they are made anew, and written over it
        scores = torch.tensor(table["score"].to_numpy(np.float32, copy=True))
        return ChannelScores(scores, torch.tensor(table["p"].to_numpy(copy=True)) if "p" in table else None)

    def save_scores(self, base_id: str, scores_id: str, scores: ChannelScores) -> None:
        """Two trials at once write the same content."""
        self.check_lease()
        path = self.base_folder(base_id) / "scores" / f"{scores_id}.parquet"
        channel = np.arange(len(scores.scores), dtype=np.int32)
        columns: dict[str, Any] = {"channel": channel, "score": scores.scores.numpy().astype(np.float32)}
        write_table(path, pa.table(columns if scores.p is None else columns | {"p": scores.p.double().numpy()}))

    # -- trials ---------------------------------------------------------------------------------------------------

    def check_trial(self, trial_id: str) -> None:
        """Raises LedgerError where a table of a trial with committed rounds is missing or torn."""
        rounds = self.table_path("rounds", trial_id)
        if rounds.exists() and check_table(rounds) > 1:
            for kind in ("channels", "predictions"):
                check_table(self.table_path(kind, trial_id))
            check_evidence(self.table_path("evidence", trial_id))

    def start_trial(self, trial_id: str, row: Row) -> None:
        """Commit round 0, copied from the base. Tables of rounds that nobody knows any more go first."""
        self.check_lease()
        for kind in ("channels", "predictions", "evidence"):
            self.table_path(kind, trial_id).unlink(missing_ok=True)
        replace_rounds(self.table_path("rounds", trial_id), rows_table([row]), [0])

    def commit_round(self, trial_id: str, row: Row, result: Result, data: FairnessData) -> None:
        """Predictions, evidence, channels, row; those of this round and of later ones are replaced."""
        self.check_lease()
        step, index = result.round, result.index
        assert step is not None
        predictions = predictions_table(index, data, {"val": result.val, "test": result.test})
        replace_rounds(self.table_path("predictions", trial_id), predictions, [index])
        replace_rounds(self.table_path("evidence", trial_id), of_outputs(row, data, result.val), [index])
        channels = channels_table(index, step.scores, step.channels, step.keep)
        replace_rounds(self.table_path("channels", trial_id), channels, [index])
        replace_rounds(self.table_path("rounds", trial_id), rows_table([row]), [index])

    def stop_trial(self, trial_id: str, reason: str) -> Row:
        """Mark the last round of a trial that nobody is at work on as the one a search stopped it after; its row."""
        self.check_lease()
        row = self.rounds(trial_id)[-1]
        row |= {"stopped": True, "stop_reason": "; ".join(filter(None, [row["stop_reason"], EARLY + reason]))}
        return self._marked(trial_id, row)

    def take_up_trial(self, trial_id: str) -> Row:
        """Take away the mark of ``stop_trial``: it goes on after all; its last row."""
        self.check_lease()
        row = self.rounds(trial_id)[-1]
        row |= {"stopped": False, "stop_reason": row["stop_reason"].partition(EARLY)[0].removesuffix("; ")}
        return self._marked(trial_id, row)

    def _marked(self, trial_id: str, row: Row) -> Row:
        replace_rounds(self.table_path("rounds", trial_id), rows_table([row]), [row["round"]])
        return row

    def states(self, identifier: str) -> States:
        """State of a trial or base model to resume from."""
        return States(self.root / "state" / identifier)

    def reached(self, identifier: str) -> str:
        """How far a trial or base model has got: equal twice only if nothing was kept in between."""
        return f"{len(self.rounds(identifier))} rounds, state {self.states(identifier).generation()}"

    def save_model(self, trial_id: str, index: int, state: Mapping[str, Tensor]) -> None:
        """The weights of the round that ``select`` prefers so far."""
        self.check_lease()
        folder = self.root / "models" / trial_id
        write_weights(folder / "model.safetensors", state)
        write_json(folder / "model.json", {"trial_id": trial_id, "round": index})

    def models(self) -> list[str]:
        """Trials whose weights are kept."""
        return [path.parent.name for path in self.find("models/*/model.json")]

    # -- failures -------------------------------------------------------------------------------------------------

    def record_failure(self, identifier: str, failure: Row) -> None:
        """What failed, where, and how to run it again."""
        self.check_lease()
        write_json(self.root / "failures" / f"{identifier}.json", {"id": identifier} | failure | {"time": time.time()})

    def forget_failure(self, identifier: str) -> None:
        """It is tried again, or has succeeded."""
        self.check_lease()
        (self.root / "failures" / f"{identifier}.json").unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _data_of(definition: AnyPath, written: object) -> Row:
    """Each job asks; a sweep.json of a thousand arms takes longer to read than a job that has nothing to do."""
    known: Row = read_definition(definition).get("data", {})
    return known
