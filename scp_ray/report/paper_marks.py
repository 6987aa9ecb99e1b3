"""Which rows of a table differ from the models they are relative to: paired, corrected, and in the fixed words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scp_ray.errors import LedgerError
from scp_ray.maths.crossfit import FOLDS
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.metrics import METRICS, observed_metrics
from scp_ray.maths.paired import PairedDifference, difference_of, fate_of, gap_note, higher_is_better, verdict
from scp_ray.maths.paired_bootstrap import redrawn_metrics
from scp_ray.maths.units import Units
from scp_ray.report.compare import JUDGED
from scp_ray.report.family import Differences, adjusted, compared
from scp_ray.report.paper_blends import Blend, Blends
from scp_ray.report.paper_entries import Entry
from scp_ray.report.paper_numbers import Said, columns

MODELS = 120  # whose images are redrawn together: half a minute on the published tables; more get no marks
DRAWS = 1000
_CHOSEN = (
    "Rounds were selected on these images and look better here than they are: better and worse are said of answers "
    f"that each come from the round selected without their image ({FOLDS} folds), and FATE has no interval."
)
_RAW = ("f1", "eodd")  # what would be said without the floors


Arms = tuple[tuple[Blend, ...], tuple[Blend, ...]]  # a row's and its baseline's, over seeds


@dataclass(frozen=True)
class Marks:
    """By row's label; rows that are not there could not be compared, and ``notes`` say why."""

    words: dict[str, dict[str, str]] = field(default_factory=dict)  # by metric of JUDGED
    p: dict[str, dict[str, float]] = field(default_factory=dict)  # Holm's, likewise
    fates: dict[str, dict[str, PairedDifference]] = field(default_factory=dict)  # by gap
    compared: int = 0  # p-values that Holm counts
    notes: list[str] = field(default_factory=list)


def marks_of(entries: Sequence[Entry], said: Said) -> Marks:
    """Compare each row with its baseline over the seeds that both have, on the same redrawn images for all rows."""
    rows = [entry for entry in entries if entry.models and not entry.is_baseline]
    models = list(dict.fromkeys(m for e in rows for m in (*e.models.values(), *e.baselines.values())))
    if not rows:
        return Marks()
    if len(models) > MODELS:
        return Marks(
            notes=[
                f"{len(models)} models are too many to be compared image by image in a table ({MODELS} at most): "
                "nothing is marked, and FATE has no interval. scp-ray compare tells two arms apart."
            ]
        )
    try:
        blends = Blends(said, rows)
    except LedgerError as error:
        return Marks(notes=[f"Nothing is marked: {error}"])
    arms = {entry.label: _arms(entry, blends) for entry in rows}  # those that are the same trials are compared once
    classes = int(said.number(rows[0].baselines[min(rows[0].models)], "num_classes"))
    redrawn = _Redrawn(
        classes, blends, list(dict.fromkeys(blend for both in arms.values() for arm in both for blend in arm))
    )
    made = {each: _differences(each, blends, redrawn) for each in dict.fromkeys(arms.values())}
    found = {label: made[each] for label, each in arms.items()}
    chosen = {entry.label for entry in rows if any(len(blend) > 1 for blend in blends.of(entry))}
    judged, raw = (adjusted(found, metrics) for metrics in (JUDGED, _RAW))
    words = {label: {name: _words(found[label][name], p[name]) for name in JUDGED} for label, p in judged.items()}
    explained: dict[str, list[str]] = {}
    for label in found:
        unfloored = _words(found[label]["eodd"], raw[label]["eodd"])
        if note := gap_note(unfloored, words[label]["excess_eodd"]):
            explained.setdefault(f"the raw Eodd alone would read {unfloored!r}: {note}.", []).append(label)
    return Marks(
        words=words,
        p=judged,
        fates={
            label: {gap: each[f"fate_{gap}"] for gap in GAPS} for label, each in found.items() if label not in chosen
        },
        compared=compared(found, JUDGED),
        notes=[f"{', '.join(labels)}: {note}" for note, labels in explained.items()] + [_CHOSEN] * bool(chosen),
    )


class _Redrawn:
    """Metrics of each blend as observed, and on the same redrawn images."""

    def __init__(self, classes: int, blends: Blends, spoken: Sequence[Blend]) -> None:
        label, group, unit = columns(blends.table)
        answers = np.stack([blends.answers(blend) for blend in spoken])
        self.units = Units(label, group, unit, num_classes=classes)
        self.place = {blend: place for place, blend in enumerate(spoken)}
        self._seen = observed_metrics(label, group, answers, num_classes=classes)
        rng = np.random.default_rng(0)
        self._drawn = redrawn_metrics(label, answers, self.units, num_classes=classes, draws=DRAWS, rng=rng)

    def of(self, name: str, arms: Arms) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(A, S) values of arms over seeds, and (R, A, S) of the same on redrawn images."""
        places = np.array([[self.place[blend] for blend in arm] for arm in arms])
        return self._seen[name][places], self._drawn[name][:, places]


def _arms(entry: Entry, blends: Blends) -> Arms:
    return blends.of(entry), tuple((entry.baselines[seed],) for seed in sorted(entry.models))


def _differences(arms: Arms, blends: Blends, redrawn: _Redrawn) -> Differences:
    """Row minus baseline in F1, Eodd, excess Eodd, and FATE of every gap, which is 0 for the baseline itself."""
    found = {name: redrawn.of(name, arms) for name in METRICS}
    pairs = {name: (seen, moved[:, 0] - moved[:, 1]) for name, (seen, moved) in found.items() if name in _RAW}
    floors = np.array([[blends.floor(blend) for blend in arm] for arm in arms])
    pairs["excess_eodd"] = (pairs["eodd"][0] - floors, pairs["eodd"][1])
    for gap in GAPS:
        # the baseline stands for both arms' own, in the order that fate_of takes them
        values, moved = ({"f1": found["f1"][i], "eodd": found[gap][i]} for i in (0, 1))
        four = {name: value[[0, 1, 1, 1]] for name, value in values.items()}
        drawn = {name: value[:, [0, 1, 1, 1]] for name, value in moved.items()}
        pairs[f"fate_{gap}"] = fate_of(four, drawn)
    return {name: difference_of(name, *pair, units=redrawn.units) for name, pair in pairs.items()}


def _words(found: PairedDifference, p: float) -> str:
    higher = higher_is_better(found.metric)
    return verdict(found.difference, p, higher_is_better=higher, seeds=found.seeds)
