"""Is one arm better than another? Paired over seeds and images, corrected for all the arms that were tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from scp_ray.errors import ConfigError, LedgerError
from scp_ray.ledger import Sweep
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.paired import PairedDifference, higher_is_better, verdict
from scp_ray.report.answers import Answers
from scp_ray.report.arms import BASE
from scp_ray.report.compare_notes import explained, fate_note, left_out, optimism
from scp_ray.report.family import adjusted, compared, differences_of, family_of, pairs_of

JUDGED = ("f1", "excess_eodd")  # Holm counts these of every arm, whatever is displayed; words are said of them alone
_RAW = ("f1", "eodd")  # what would be said without the floors
_ORDER = ("f1", *(name for gap in GAPS for name in (gap, f"excess_{gap}")), "fate_eodd")


@dataclass(frozen=True)
class Line:
    """One metric: means over seeds, their paired difference (first minus second) and what can be said of it."""

    metric: str
    first: float
    second: float
    difference: float
    low: float  # 95 % interval of the difference; NaN where none may be given
    high: float
    standard_error: float
    degrees: float
    p: float
    p_holm: float  # NaN where the metric is not judged
    verdict: str  # of the first arm; empty where the metric is not judged


@dataclass(frozen=True)
class Comparison:
    """Two arms on one split, with all that a reader has to know beside the numbers."""

    first: str
    second: str
    split: str
    n: int
    units: int
    seeds: list[int]
    rounds: dict[str, dict[int, int]]  # by arm and seed the round that was selected
    select: list[str]
    folds: int  # of the images, each answered by the round that is chosen without it; 0 where no round was chosen here
    configurations: int  # that the sweep holds
    baseline: str
    compared: int  # p-values that Holm counts
    lines: list[Line]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def compare(
    sweep: Sweep, first: str, second: str, *, split: str = "val", told: Callable[[int], None] = lambda _: None
) -> Comparison:
    """Compare two arms by label (or BASE) at their selected rounds, over the seeds that both have done.

    On validation, where rounds are selected, each image is answered by the round that is selected without it
    (``maths.crossfit``). The baseline of Holm's family is BASE where it is one of the two, else the second. ``told`` is
    given the number of arms that are compared with it before the first is.

    Raises ConfigError for an arm with itself or one that is the same trials, LedgerError where the two share no
    finished seed or other images were asked about.
    """
    if first == second:
        raise ConfigError(f"{first!r} is compared with itself; name two arms.")
    baseline = first if first == BASE else second
    answers = Answers(sweep, split)
    pairs = pairs_of(sweep, answers, first, second)
    if not pairs.voices:
        raise LedgerError(
            f"{first!r} and {second!r} have no seed that both have finished. See scp-ray status {sweep.ledger.root}"
        )
    if pairs.one:
        raise ConfigError(f"{first!r} and {second!r} are the same trials: what they differ in changed nothing.")
    differences = differences_of(answers, pairs)
    flipped = tuple((b, a) for a, b in pairs.voices)
    family = family_of(sweep, answers, baseline, {pairs.voices: differences, flipped: differences}, told)
    other = second if first == baseline else first
    judged, raw = (adjusted(family, metrics)[other] for metrics in (JUDGED, _RAW))
    images = answers.images
    assert images is not None
    no_interval = fate_note(answers, pairs)
    lines = [
        _line(differences[name], judged.get(name, math.nan), interval=name != "fate_eodd" or not no_interval)
        for name in _ORDER
        if name in differences
    ]
    arms = {arm["label"]: arm for arm in sweep.definition["arms"]}
    folds = max(len(voice.rounds) for pair in pairs.voices for voice in pair)
    folds = folds if folds > 1 else 0
    means = {line.metric: (line.first, line.second) for line in lines}
    words = _words(differences["eodd"], raw["eodd"]), _words(differences["excess_eodd"], judged["excess_eodd"])
    notes = (
        no_interval,
        explained(*words),
        left_out(sweep, first, second, pairs),
        optimism(sweep, pairs, means, folds) if folds or split == "test" else "",
    )
    return Comparison(
        first=first,
        second=second,
        split=split,
        n=len(images.id),
        units=images.units,
        seeds=[*pairs.places],
        rounds={
            label: {seed: pair[side][1] for seed, pair in pairs.places.items()}
            for side, label in enumerate((first, second))
        },
        select=sorted({arms[label]["config"]["select"] for label in (first, second) if label != BASE}),
        folds=folds,
        configurations=len(arms),
        baseline=baseline,
        compared=compared(family, JUDGED),
        lines=lines,
        notes=[note for note in notes if note],
    )


def _line(found: PairedDifference, p_holm: float, *, interval: bool) -> Line:
    nothing = dict.fromkeys(("low", "high", "standard_error", "degrees", "p"), math.nan)
    numbers = {
        "low": found.low,
        "high": found.high,
        "standard_error": found.standard_error,
        "degrees": found.degrees,
        "p": found.p_value,
    }
    return Line(
        metric=found.metric,
        first=found.first,
        second=found.second,
        difference=found.difference,
        **(numbers if interval else nothing),
        p_holm=p_holm,
        verdict=_words(found, p_holm) if found.metric in JUDGED else "",
    )


def _words(found: PairedDifference, p_holm: float) -> str:
    higher = higher_is_better(found.metric)
    return verdict(found.difference, p_holm, higher_is_better=higher, seeds=found.seeds)
