"""What is compared of a table's row: where rounds were selected on the split that is shown, no round by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scp_ray.errors import LedgerError
from scp_ray.ledger.evidence import primary
from scp_ray.loop.stopping import parse_select
from scp_ray.maths.crossfit import FOLDS, deal_folds
from scp_ray.report.paper_entries import Entry, Model
from scp_ray.report.paper_numbers import Said, columns
from scp_ray.report.voices import voice_of

Blend = tuple[Model, ...]  # by fold of the images the model that answers them; of one, for all


class Blends:
    """By row and seed what speaks for it, as ``report.voices`` says.

    Raises LedgerError where predictions are gone, or not all models were asked about the same images.
    """

    def __init__(self, said: Said, entries: Iterable[Entry]) -> None:
        self._said = said
        self._first: pd.DataFrame | None = None
        self._predicted: dict[Model, NDArray[Any]] = {}
        self._dealt: dict[int, NDArray[np.int64]] = {}
        self._blends: dict[tuple[str, int], Blend] = {}
        for entry in entries:
            for seed in sorted(entry.models):
                self._model(entry.baselines[seed])
                self._blends[entry.label, seed] = self._blend(entry, seed)

    @property
    def table(self) -> pd.DataFrame:
        """Of the images that all were asked about."""
        assert self._first is not None
        return self._first

    def of(self, entry: Entry) -> tuple[Blend, ...]:
        """A row's, over its seeds."""
        return tuple(self._blends[entry.label, seed] for seed in sorted(entry.models))

    def answers(self, blend: Blend) -> NDArray[Any]:
        """(N,) predictions."""
        said = np.stack([self._model(model) for model in blend])
        spoken: NDArray[Any] = said[self._folds(len(blend)), np.arange(said.shape[1])]
        return spoken

    def floor(self, blend: Blend) -> float:
        """Mean of Eodd's noise floor: of several models each for the share of the images that it answers."""
        self._said.know(blend)
        fold = self._folds(len(blend))
        means = [self._said.evidence(model, "eodd", "floor_mean") for model in blend]
        return float(np.bincount(fold, minlength=len(blend)) / len(fold) @ np.array(means))

    def _blend(self, entry: Entry, seed: int) -> Blend:
        if self._said.split != "val" or not entry.config or parse_select(entry.config["select"])[0] == "round":
            self._model(entry.models[seed])
            return (entry.models[seed],)
        start, trial_id = Model(entry.models[seed].base_id), entry.trials[seed]
        rows = self._said.sweep.predictions(trial_id)
        rows = rows[(rows["split"] == "val") & (rows["round"] <= entry.config["rounds"])]
        models = [start]
        for index, part in rows.groupby("round"):
            models.append(Model(start.base_id, trial_id, int(str(index))))
            self._predicted[models[-1]] = self._checked(part)
        label, group, _ = columns(self.table)
        said, classes = np.stack([self._model(model) for model in models]), int(self._said.number(start, "num_classes"))
        voice = voice_of(trial_id, said, label, group, self._folds(FOLDS), entry.config, classes)
        return tuple(models[place] for place in voice.rounds)

    def _folds(self, count: int) -> NDArray[np.int64]:
        if count not in self._dealt:
            self._dealt[count] = deal_folds(*columns(self.table), folds=count)
        return self._dealt[count]

    def _model(self, model: Model) -> NDArray[Any]:
        if model not in self._predicted:
            self._predicted[model] = self._checked(self._said.table(model))
        return self._predicted[model]

    def _checked(self, table: pd.DataFrame) -> NDArray[Any]:
        known = self._first = table if self._first is None else self._first
        names = ("id", "label", primary(known))
        if len(table) != len(known) or any((table[name].to_numpy() != known[name].to_numpy()).any() for name in names):
            raise LedgerError("not all models were asked about the same images, labels and groups.")
        return table["prediction"].to_numpy()
