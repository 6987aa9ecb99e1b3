"""A sweep read back as pandas frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pandas as pd
import pyarrow as pa

from scp_ray.errors import LedgerError
from scp_ray.ledger.evidence import evidence_frame
from scp_ray.ledger.files import read_many, read_table
from scp_ray.ledger.ledger import Ledger
from scp_ray.ledger.records import rows_done, stopped_early
from scp_ray.loop.stopping import Standing, StopRule, select_round, stop_reasons
from scp_ray.maths.gaps import GAPS
from scp_ray.places import AnyPath, any_path

_TOLD = ("trial_id", "round", "val_f1", *(f"val_{gap}" for gap in GAPS), "stopped", "stop_reason")


class Sweep:
    """Everything a sweep has recorded so far; frames are read on first use."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.definition = ledger.definition()

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row per trial and round, from round 0 (copied from the base) on."""
        return _concatenated(self.ledger.find("rounds/*.parquet"))

    @cached_property
    def channels(self) -> pd.DataFrame:
        """A row per trial, round and channel: score, pruned in this round, kept after it."""
        paths = self.ledger.find("channels/*.parquet")
        return _concatenated(paths, trial_id=[path.stem for path in paths])

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """A row per trial, round from 0 (its base's) on, split and metric: noise floor, p, excess, interval.

        Columns as ``ledger.evidence.SCHEMA`` says, and trial_id. Rounds of an older sweep have no rows until
        ``scp-ray report`` has filled them in.
        """
        return evidence_frame(self.ledger, self.rounds)

    @cached_property
    def bases(self) -> pd.DataFrame:
        """A row per base model: its round 0."""
        return _concatenated(self.ledger.find("bases/*/rounds.parquet"))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row per arm and seed: the axes' values, ids, status, rounds done, the selected round.

        Arms that resolve to one trial share its ``trial_id``. ``status`` is done, stopped (early, by a
        search), failed, started or waiting.
        """
        failures = self.ledger.failures()
        by_trial: dict[str, list[dict[str, Any]]] = {}
        told = [name for name in self.rounds if name in _TOLD or str(name).startswith("val_fate_")]
        for record in self.rounds[told].to_dict("records"):  # as plain rows: cuts of a frame take ten times as long
            by_trial.setdefault(str(record["trial_id"]), []).append({str(key): each for key, each in record.items()})
        rows = []
        for arm in self.definition["arms"]:
            for entry in arm["trials"]:
                rounds = by_trial.get(entry["trial_id"])
                ids = {key: value for key, value in entry.items() if key != "needs"}
                row = {"arm": arm["label"], **_flat(arm["settings"]), **ids}
                row["rounds_asked"] = arm["config"]["rounds"]
                rows.append(row | _standing(arm["config"], rounds, failures, entry))
        return pd.DataFrame(rows)

    @property
    def base_ids(self) -> list[str]:
        """Every base model that the trials need, those included that only another base model is made from."""
        entries = [entry for arm in self.definition["arms"] for entry in arm["trials"]]
        return list(dict.fromkeys(base_id for entry in entries for base_id in _bases_of(entry)))

    def failures(self) -> dict[str, dict[str, Any]]:
        """What failed of all that is asked for, by the id of the trial or base model."""
        asked = {*self.base_ids, *(entry["trial_id"] for arm in self.definition["arms"] for entry in arm["trials"])}
        return {key: failure for key, failure in self.ledger.failures().items() if key in asked}

    def predictions(self, trial_id: str) -> pd.DataFrame:
        """A row per image, split and round from 1 on; round 0 is the base's (``base_predictions``)."""
        return read_table(self.ledger.table_path("predictions", trial_id))

    def base_predictions(self, base_id: str) -> pd.DataFrame:
        """A row per image and split of a base model."""
        return read_table(self.ledger.base_folder(base_id) / "predictions.parquet")

    def round_predictions(self, trial_id: str, index: int) -> pd.DataFrame:
        """A row per image and split of one round of a trial; round 0 is its base's."""
        if index == 0:
            starts = self.rounds[(self.rounds["trial_id"] == trial_id) & (self.rounds["round"] == 0)]
            return self.base_predictions(str(starts["base_id"].iloc[0]))
        rows = self.predictions(trial_id)
        return rows[rows["round"] == index].reset_index(drop=True)

    def base_sparsity(self, base_id: str) -> pd.DataFrame:
        """The share of weights that the base method pruned in each layer; no rows where it prunes none."""
        path = self.ledger.base_folder(base_id) / "sparsity.parquet"
        return read_table(path) if path.exists() else pd.DataFrame({"layer": [], "pruned": []})


def load_sweep(path: str | AnyPath) -> Sweep:
    """The sweep in a folder, or in the only sweep folder inside it; a path or a URI such as s3://bucket/prefix.

    Raises LedgerError where there is none, or several.
    """
    return Sweep(Ledger(find_sweep(path)))


def find_sweep(path: str | AnyPath) -> AnyPath:
    """The folder that holds sweep.json: ``path`` or the only one in it."""
    folder = any_path(path)
    if (folder / "sweep.json").is_file():
        return folder
    inside = sorted(found.parent for found in folder.glob("*/sweep.json"))
    if len(inside) == 1:
        return inside[0]
    if not inside:
        raise LedgerError(f"{folder} holds no sweep: there is no sweep.json in it. Name the folder a sweep printed.")
    raise LedgerError(f"{folder} holds several sweeps; name one: {', '.join(str(found) for found in inside)}.")


def _bases_of(entry: dict[str, Any]) -> list[str]:
    return [entry["base_id"], entry["vanilla_id"], *entry.get("needs", [])]


def _standing(
    config: dict[str, Any], rows: list[dict[str, Any]] | None, failures: dict[str, Any], entry: dict[str, Any]
) -> dict[str, Any]:
    failed = next((failures[key] for key in (entry["trial_id"], *_bases_of(entry)) if key in failures), None)
    if rows is None:
        return {"status": "failed" if failed else "waiting", "rounds_done": 0, "selected_round": None}
    # an arm is read by its own rules: the trial may be another arm's too, with more rounds or another stop rule
    asked = [row for row in rows if row["round"] <= config["rounds"]]
    rule = StopRule(**config["stop"])
    standings = [Standing(row["val_f1"], row[f"val_{rule.gap}"]) for row in asked]
    fates = [row[f"val_fate_{rule.gap}_base"] for row in asked]
    selected = select_round(config["select"], fates, stop_reasons(standings, rule))
    last = rows[-1]
    done = rows_done([last], config["rounds"])
    status = "done" if done else "stopped" if stopped_early(last) else "failed" if failed else "started"
    return {"status": status, "rounds_done": max(int(row["round"]) for row in asked), "selected_round": selected}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Axis values as columns; a plug-in with options by its name."""
    return {axis: _name(value) for axis, value in settings.items()}


def _name(value: Any) -> Any:
    if isinstance(value, list):
        return "-".join(str(_name(part)) for part in value)
    return value["name"] if isinstance(value, dict) and "name" in value else value


def _concatenated(paths: Sequence[AnyPath], **added: list[str]) -> pd.DataFrame:
    tables = []
    for position, table in enumerate(read_many(paths)):
        for name, values in added.items():
            table = table.add_column(0, name, pa.array([values[position]] * len(table)))
        tables.append(table)
    return pa.concat_tables(tables, promote_options="permissive").to_pandas() if tables else pd.DataFrame()
