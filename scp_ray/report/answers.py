"""What the models of several arms and seeds said of one table of images, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep
from scp_ray.ledger.evidence import evidence_of, primary
from scp_ray.loop.stopping import parse_select
from scp_ray.maths.crossfit import deal_folds
from scp_ray.report.arms import BASE
from scp_ray.report.voices import Voice, voice_of

Place = tuple[str, int]  # trial_id, round


@dataclass(frozen=True)
class Images:
    """The table that all answers are about, in its order."""

    id: tuple[str, ...]
    label: NDArray[np.int64]  # (N,)
    group: NDArray[np.int64]  # (N,) codes of the primary attribute
    unit: NDArray[np.int64]  # (N,) codes of lesion, patient or image
    num_classes: int

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        """(N,) of whole units."""
        return deal_folds(self.label, self.group, self.unit)

    @property
    def units(self) -> int:
        """How many there are."""
        return len(np.unique(self.unit))


@dataclass
class Answers:
    """Reads each trial's predictions once; rounds on other images than the first one's are refused."""

    sweep: Sweep
    split: str
    images: Images | None = None
    _known: dict[Place, NDArray[Any]] = field(default_factory=dict)
    _evidence: dict[Place, pd.DataFrame] = field(default_factory=dict)

    def voice(self, place: Place, config: Mapping[str, Any] | None) -> Voice:
        """What speaks for an arm of this configuration at its selected round; None: a round that nobody chose.

        On validation, where rounds are chosen, each image is answered by the round that is chosen without it.
        """
        trial_id, index = place
        if self.split != "val" or config is None or parse_select(config["select"])[0] == "round":
            return Voice(trial_id, (index,))
        rounds = self.sweep.rounds
        own = rounds.loc[(rounds["trial_id"] == trial_id) & (rounds["round"] <= config["rounds"]), "round"]
        said = self.of([Voice(trial_id, (int(each),)) for each in sorted(own)])
        images = self.images
        assert images is not None
        if images.group.max() > 1:
            raise self._ungapped(place, "eodd")
        return voice_of(trial_id, said, images.label, images.group, images.fold, config, images.num_classes)

    def of(self, voices: list[Voice]) -> NDArray[Any]:
        """(S, N) predictions, in the given order."""
        return np.stack([self._said(voice) for voice in voices])

    def floor_mean(self, voice: Voice, gap: str) -> float:
        """Of its noise floor: that of its rounds, each for the share of the images that it answers.

        The floor of such answers as a whole is on average the same to 0.002 (benchmarks/calibration_chosen.py).
        """
        means = {index: self.evidence((voice.trial_id, index), gap)["floor_mean"] for index in set(voice.rounds)}
        if len(means) == 1:
            return float(next(iter(means.values())))
        images = self.images
        assert images is not None
        share = np.bincount(images.fold, minlength=len(voice.rounds)) / len(images.fold)
        return float(sum(part * means[index] for part, index in zip(share, voice.rounds, strict=True)))

    def evidence(self, place: Place, metric: str) -> dict[str, Any]:
        """A round's evidence on one metric; see ``evidence_of``."""
        start = self._start(place)
        if start not in self._evidence:
            self._evidence[start] = evidence_of(self.sweep, *place, self.split)
        rows = self._evidence[start]
        found = rows[rows["metric"] == metric].to_dict("records")
        if not found:
            raise self._ungapped(place, metric)
        return {str(key): value for key, value in found[0].items()}

    def _ungapped(self, place: Place, metric: str) -> LedgerError:
        return LedgerError(
            f"{self.sweep.ledger.root} has no evidence on {metric} of trial {place[0]}, round {place[1]}: its "
            "attribute has more than two groups, which the gaps are not defined for."
        )

    def _said(self, voice: Voice) -> NDArray[Any]:
        by_round = {index: self._one((voice.trial_id, index)) for index in set(voice.rounds)}
        if len(by_round) == 1:
            return next(iter(by_round.values()))
        assert self.images is not None
        answers = np.stack([by_round[index] for index in voice.rounds])
        spoken: NDArray[Any] = answers[self.images.fold, np.arange(answers.shape[1])]
        return spoken

    def _start(self, place: Place) -> Place:
        """Round 0 is the base's, however many trials begin there."""
        trial_id, index = place
        if index:
            return place
        rounds = self.sweep.rounds
        return str(rounds.loc[(rounds["trial_id"] == trial_id) & (rounds["round"] == 0), "base_id"].iloc[0]), 0

    def _one(self, place: Place) -> NDArray[Any]:
        start = self._start(place)
        if start not in self._known:
            self._read(place)
        if start not in self._known:
            raise LedgerError(
                f"{self.sweep.ledger.root} has no predictions of trial {place[0]}, round {place[1]}, on the split "
                f"{self.split!r}."
            )
        return self._known[start]

    def _read(self, place: Place) -> None:
        """All rounds of the file that this one stands in."""
        own, index = self._start(place)
        rows = self.sweep.predictions(own) if index else self.sweep.base_predictions(own)
        for each, part in rows[rows["split"] == self.split].groupby("round"):
            images = self._images(part, place[0])
            if self.images is None:
                self.images = images
            self._check(images, place)
            self._known[own, int(str(each))] = part["prediction"].to_numpy()

    def _images(self, rows: pd.DataFrame, trial_id: str) -> Images:
        rounds = self.sweep.rounds
        classes = rounds.loc[rounds["trial_id"] == trial_id, "num_classes"].iloc[0]
        label, group = rows["label"].to_numpy(np.int64), rows[primary(rows)].to_numpy(np.int64)
        unit = pd.factorize(rows["unit"])[0].astype(np.int64)
        return Images(tuple(rows["id"]), label, group, unit, int(classes))

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
