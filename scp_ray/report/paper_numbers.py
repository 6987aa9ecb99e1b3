"""The numbers of single models that a table is the mean of: on validation from the ledger, on test from predictions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep
from scp_ray.ledger.evidence import evidence_table, primary
from scp_ray.ledger.files import read_table
from scp_ray.maths.fate import fate
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.report import fairness_report
from scp_ray.report.paper_entries import Entry, Model

ACCURACIES = ("precision", "recall", "f1")
MEASURED = (*(f"{name}{part}" for name in ACCURACIES for part in ("_group0", "_group1", "", "_diff")), *GAPS)
Numbers = Mapping[str, float]


@dataclass
class Said:
    """Reads each model's numbers, evidence and predictions on one split once."""

    sweep: Sweep
    split: str
    _numbers: dict[Model, Numbers] = field(default_factory=dict)
    _evidence: dict[Model, dict[str, dict[str, Any]]] = field(default_factory=dict)
    _tables: dict[Model, pd.DataFrame] = field(default_factory=dict)

    def prepare(self, entries: Iterable[Entry], *, floors: bool) -> None:
        """Read what the rows of a table need; ``floors``: of test predictions too, which takes a while."""
        models = list(dict.fromkeys(m for e in entries for m in (*e.models.values(), *e.baselines.values())))
        if self.split == "val":
            self._numbers = _from_rounds(self.sweep, models)
            self._evidence = _from_evidence(self.sweep, models)
            return
        for model in models:
            self._numbers[model] = self._reported(model)
            if floors:
                self._evidence[model] = self._computed(model)
            else:  # so many that they are not kept
                self._tables.clear()

    def know(self, models: Iterable[Model]) -> None:
        """Read the ledger's evidence on validation of further models."""
        lacking = [model for model in dict.fromkeys(models) if model not in self._evidence]
        if self.split == "val" and lacking:
            self._evidence |= _from_evidence(self.sweep, lacking)

    def number(self, model: Model, name: str) -> float:
        """One of MEASURED, n or num_classes; NaN where the ledger has none yet."""
        return float(self._numbers.get(model, {}).get(name, math.nan))

    def evidence(self, model: Model, metric: str, name: str) -> float:
        """A column of the model's evidence on one metric; NaN where there is none."""
        return float(self._evidence.get(model, {}).get(metric, {}).get(name, math.nan))

    def fate(self, model: Model, baseline: Model, gap: str) -> float:
        """FATE of one gap; NaN where it is undefined."""
        f1, f1_baseline = self.number(model, "f1"), self.number(baseline, "f1")
        against = {"f1_baseline": f1_baseline, "gap_baseline": self.number(baseline, gap)}
        return fate(f1, self.number(model, gap), **against)

    def table(self, model: Model) -> pd.DataFrame:
        """Its predictions: a row per image of the split. Raises LedgerError where they are gone."""
        if model not in self._tables:
            ledger = self.sweep
            rows = ledger.predictions(model.trial_id) if model.round else ledger.base_predictions(model.base_id)
            rows = rows[(rows["round"] == model.round) & (rows["split"] == self.split)]
            if not len(rows):
                raise LedgerError(
                    f"{ledger.ledger.root} has no predictions of {model.trial_id or model.base_id}, round "
                    f"{model.round}, on the split {self.split!r}."
                )
            kept = [name for name in rows.columns if name != "logits"]
            self._tables[model] = rows[kept].reset_index(drop=True)
        return self._tables[model]

    def _reported(self, model: Model) -> Numbers:
        rows, classes = self.table(model), _classes(self.sweep, model)
        report = fairness_report(rows["label"], rows["prediction"], rows[primary(rows)], num_classes=classes)
        return report.as_row() | {"num_classes": classes}

    def _computed(self, model: Model) -> dict[str, dict[str, Any]]:
        rows = self.table(model)
        found = evidence_table(
            model.round,
            self.split,
            rows["label"].to_numpy(),
            rows["prediction"].to_numpy(),
            rows[primary(rows)].to_numpy(),
            list(rows["unit"]),
            num_classes=_classes(self.sweep, model),
            seed=int(_row(self.sweep, model)["seed"]),
        )
        return {str(row["metric"]): row for row in found.to_pylist()}


def columns(table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(N,) labels, groups and codes of units of a model's predictions."""
    label, group = table["label"].to_numpy(np.int64), table[primary(table)].to_numpy(np.int64)
    return label, group, pd.factorize(table["unit"])[0].astype(np.int64)


def _row(sweep: Sweep, model: Model) -> dict[str, Any]:
    frame = sweep.rounds if model.round else sweep.bases
    chosen = frame["base_id"] == model.base_id
    if model.round:
        chosen = (frame["trial_id"] == model.trial_id) & (frame["round"] == model.round)
    return {str(key): value for key, value in frame[chosen].iloc[0].items()}


def _classes(sweep: Sweep, model: Model) -> int:
    return int(_row(sweep, model)["num_classes"])


def _from_rounds(sweep: Sweep, models: Iterable[Model]) -> dict[Model, Numbers]:
    """What the rows of rounds say of validation."""
    names = [*MEASURED, "n"]
    bases = _records(sweep.bases, ["base_id"], names)
    trials = _records(sweep.rounds, ["trial_id", "round"], names)
    found: dict[Model, Numbers] = {}
    for model in models:
        row = trials.get((model.trial_id, model.round)) if model.round else bases.get((model.base_id,))
        if row is not None:
            found[model] = row
    return found


def _records(frame: pd.DataFrame, keys: list[str], names: list[str]) -> dict[tuple[Any, ...], dict[str, float]]:
    if not len(frame):
        return {}
    told = frame[[f"val_{name}" for name in names] + ["num_classes"]].to_numpy(float)
    places = zip(*(frame[key] for key in keys), strict=True)
    return {
        place: dict(zip([*names, "num_classes"], row, strict=True)) for place, row in zip(places, told, strict=True)
    }


def _from_evidence(sweep: Sweep, models: Iterable[Model]) -> dict[Model, dict[str, dict[str, Any]]]:
    """By model and metric the ledger's evidence on validation."""
    starts = sweep.rounds.loc[sweep.rounds["round"] == 0, ["base_id", "trial_id"]] if len(sweep.rounds) else None
    first = {} if starts is None else dict(zip(starts["base_id"], starts["trial_id"], strict=True))
    wanted = {(m.trial_id, m.round) if m.round else (first.get(m.base_id, ""), 0): m for m in models}
    found: dict[Model, dict[str, dict[str, Any]]] = {}
    if len(known := sweep.evidence):
        trials = {trial_id for trial_id, _ in wanted}
        for row in known[(known["split"] == "val") & known["trial_id"].isin(trials)].to_dict("records"):
            model = wanted.get((str(row["trial_id"]), int(row["round"])))
            if model is not None:
                found.setdefault(model, {})[str(row["metric"])] = {str(key): value for key, value in row.items()}
    for model in models:  # base models that no trial begins from
        path = sweep.ledger.base_folder(model.base_id) / "evidence.parquet"
        if not model.round and model.base_id not in first and path.exists():
            rows = read_table(path).to_dict("records")
            found[model] = {str(row["metric"]): {str(k): v for k, v in row.items()} for row in rows}
    return found
