"""What the models of several arms and seeds said of one table of images, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep
from scp_ray.ledger.evidence import evidence_of, primary
from scp_ray.report.arms import BASE

Place = tuple[str, int]  # trial_id, round


@dataclass(frozen=True)
class Images:
    """The table that all answers are about, in its order."""

    id: tuple[str, ...]
    label: NDArray[np.int64]  # (N,)
    group: NDArray[np.int64]  # (N,) codes of the primary attribute
    unit: NDArray[np.int64]  # (N,) codes of lesion, patient or image
    num_classes: int

    @property
    def units(self) -> int:
        """How many there are."""
        return len(np.unique(self.unit))


@dataclass
class Answers:
    """Reads each round's predictions once; rounds on other images than the first one's are refused."""

    sweep: Sweep
    split: str
    images: Images | None = None
    _known: dict[Place, NDArray[np.int64]] = field(default_factory=dict)
    _evidence: dict[Place, pd.DataFrame] = field(default_factory=dict)

    def of(self, places: list[Place]) -> NDArray[np.int64]:
        """(S, N) predictions of rounds, in the given order."""
        return np.stack([self._one(place) for place in places])

    def evidence(self, place: Place, metric: str) -> dict[str, Any]:
        """A round's evidence on one metric; see ``evidence_of``."""
        start = self._start(place)
        if start not in self._evidence:
            self._evidence[start] = evidence_of(self.sweep, *place, self.split)
        rows = self._evidence[start]
        found = rows[rows["metric"] == metric].to_dict("records")
        if not found:
            raise LedgerError(
                f"{self.sweep.ledger.root} has no evidence on {metric} of trial {place[0]}, round {place[1]}: its "
                "attribute has more than two groups, which the gaps are not defined for."
            )
        return {str(key): value for key, value in found[0].items()}

    def _start(self, place: Place) -> Place:
        """Round 0 is the base's, however many trials begin there."""
        trial_id, index = place
        if index:
            return place
        rounds = self.sweep.rounds
        return str(rounds.loc[(rounds["trial_id"] == trial_id) & (rounds["round"] == 0), "base_id"].iloc[0]), 0

    def _one(self, place: Place) -> NDArray[np.int64]:
        start = self._start(place)
        if start not in self._known:
            rows = self.sweep.round_predictions(*place)
            rows = rows[rows["split"] == self.split]
            if not len(rows):
                raise LedgerError(
                    f"{self.sweep.ledger.root} has no predictions of trial {place[0]}, round {place[1]}, on the split "
                    f"{self.split!r}."
                )
            images = self._images(rows, place[0])
            if self.images is None:
                self.images = images
            self._check(images, place)
            self._known[start] = rows["prediction"].to_numpy(np.int64)
        return self._known[start]

    def _images(self, rows: pd.DataFrame, trial_id: str) -> Images:
        rounds = self.sweep.rounds
        classes = rounds.loc[rounds["trial_id"] == trial_id, "num_classes"].iloc[0]
        label, group = rows["label"].to_numpy(np.int64), rows[primary(rows)].to_numpy(np.int64)
        return Images(tuple(rows["id"]), label, group, pd.factorize(rows["unit"])[0].astype(np.int64), int(classes))

    def _check(self, images: Images, place: Place) -> None:
        known = self.images
        assert known is not None
        same = images.id == known.id and images.num_classes == known.num_classes
        same = same and np.array_equal(images.label, known.label) and np.array_equal(images.group, known.group)
        if not same:
            raise LedgerError(
                f"trial {place[0]} was asked about other images, labels or groups than the others: only answers to the "
                "same questions can be compared."
            )


def places(sweep: Sweep, arm: str, other: str) -> dict[int, Place]:
    """By seed the round that speaks for the arm; of BASE the round 0 of the ``other`` arm's trials.

    Only trials that are done: what is selected of the others may still change.
    """
    trials = sweep.trials
    rows = trials[(trials["arm"] == (other if arm == BASE else arm)) & (trials["status"] == "done")]
    return {
        int(row["seed"]): (str(row["trial_id"]), 0 if arm == BASE else int(row["selected_round"]))
        for row in rows.to_dict("records")
    }
