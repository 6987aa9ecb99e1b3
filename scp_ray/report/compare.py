"""Is one arm better than another? Paired over seeds and images, corrected for all the arms that were tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from scp_ray.errors import ConfigError, LedgerError
from scp_ray.ledger import Sweep
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.paired import PairedDifference, gap_note, higher_is_better, holm, paired_differences, verdict
from scp_ray.report.answers import Answers, Place, places
from scp_ray.report.arms import BASE

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
    rounds: dict[str, dict[int, int]]  # by arm and seed the round that was read
    select: list[str]
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

    The baseline of Holm's family is BASE where it is one of the two, else the second. ``told`` is given the number of
    arms that are compared with it before the first is.

    Raises ConfigError for an arm with itself, LedgerError where the two share no finished seed or other images were
    asked about.
    """
    if first == second:
        raise ConfigError(f"{first!r} is compared with itself; name two arms.")
    baseline = first if first == BASE else second
    answers = Answers(sweep, split)
    pairs = _pairs(sweep, first, second)
    if not pairs:
        raise LedgerError(
            f"{first!r} and {second!r} have no seed that both have finished. See scp-ray status {sweep.ledger.root}"
        )
    differences = _differences(answers, pairs)
    family = _family(sweep, answers, baseline, (first, second), differences, told)
    other = second if first == baseline else first
    judged, raw = (_adjusted(family, metrics)[other] for metrics in (JUDGED, _RAW))
    images = answers.images
    assert images is not None
    fate_note = _fate_note(answers, pairs)
    lines = [
        _line(differences[name], judged.get(name, math.nan), interval=name != "fate_eodd" or not fate_note)
        for name in _ORDER
        if name in differences
    ]
    arms = {arm["label"]: arm for arm in sweep.definition["arms"]}
    return Comparison(
        first=first,
        second=second,
        split=split,
        n=len(images.id),
        units=images.units,
        seeds=[*pairs],
        rounds={
            label: {seed: pair[side][1] for seed, pair in pairs.items()} for side, label in enumerate((first, second))
        },
        select=sorted({arms[label]["config"]["select"] for label in (first, second) if label != BASE}),
        configurations=len(arms),
        baseline=baseline,
        compared=sum(not math.isnan(found[metric].p_value) for found in family.values() for metric in JUDGED),
        lines=lines,
        notes=[
            note
            for note in (
                fate_note,
                _explained(differences, judged, raw),
                _left_out(sweep, first, second, pairs),
                _optimism(sweep, pairs, lines) if split == "test" else "",
            )
            if note
        ],
    )


def _pairs(sweep: Sweep, first: str, second: str) -> dict[int, tuple[Place, Place]]:
    """By seed the rounds of both; seeds that one has not finished are left out."""
    left, right = places(sweep, first, second), places(sweep, second, first)
    return {seed: (left[seed], right[seed]) for seed in sorted(left.keys() & right.keys())}


def _differences(answers: Answers, pairs: dict[int, tuple[Place, Place]]) -> dict[str, PairedDifference]:
    """Every metric's paired difference; each arm's FATE is against its own round 0."""
    sides = [[pair[side] for pair in pairs.values()] for side in (0, 1)]
    first, second = (answers.of(side) for side in sides)
    starts = [answers.of([(trial_id, 0) for trial_id, _ in side]) for side in sides]
    means = {gap: [[answers.evidence(place, gap)["floor_mean"] for place in side] for side in sides] for gap in GAPS}
    images = answers.images
    assert images is not None
    return paired_differences(
        images.label,
        images.group,
        first,
        second,
        num_classes=images.num_classes,
        unit=images.unit,
        baseline_first=starts[0],
        baseline_second=starts[1],
        floors={gap: (both[0], both[1]) for gap, both in means.items()},
    )


def _family(
    sweep: Sweep,
    answers: Answers,
    baseline: str,
    shown: tuple[str, str],
    known: dict[str, PairedDifference],
    told: Callable[[int], None],
) -> dict[str, dict[str, PairedDifference]]:
    """By arm its differences to the baseline; those of the pair that is shown are known, with either sign."""
    others = [str(arm["label"]) for arm in sweep.definition["arms"] if arm["label"] != baseline]
    told(len(others))
    family = {}
    for label in others:
        pairs = {} if label in shown else _pairs(sweep, label, baseline)
        if label in shown:
            family[label] = known
        elif pairs:
            family[label] = _differences(answers, pairs)
    return family


def _adjusted(family: dict[str, dict[str, PairedDifference]], metrics: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """By arm and metric Holm's p over all arms and these metrics."""
    places = [(label, metric) for label in family for metric in metrics]
    p = holm([family[label][metric].p_value for label, metric in places])
    adjusted: dict[str, dict[str, float]] = {label: {} for label in family}
    for (label, metric), value in zip(places, p, strict=True):
        adjusted[label][metric] = value
    return adjusted


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


def _fate_note(answers: Answers, pairs: dict[int, tuple[Place, Place]]) -> str:
    """Why FATE has no interval: it divides by a gap that chance alone would show. Empty where it has one."""
    starts = dict.fromkeys((trial_id, 0) for pair in pairs.values() for trial_id, _ in pair)
    bases = {tuple(row.items()): row for row in (answers.evidence(start, "eodd") for start in starts)}.values()
    within = [row for row in bases if not row["observed"] > row["floor_high"]]
    if not within:
        return ""
    shown = ", ".join(f"{row['observed']:.4f} (floor up to {row['floor_high']:.4f})" for row in within[:5])
    return (
        f"FATE has no interval: it divides by the base's Eodd, which lies within its noise floor in {len(within)} of "
        f"{len(bases)} base models: {shown}."
    )


def _explained(differences: dict[str, PairedDifference], judged: dict[str, float], raw: dict[str, float]) -> str:
    """Where the raw gap would say something else than the excess gap does."""
    words = _words(differences["eodd"], raw["eodd"]), _words(differences["excess_eodd"], judged["excess_eodd"])
    note = gap_note(*words)
    return f"The raw Eodd alone would read {words[0]!r}: {note}." if note else ""


def _left_out(sweep: Sweep, first: str, second: str, pairs: dict[int, tuple[Place, Place]]) -> str:
    trials = sweep.trials
    asked = set(trials.loc[trials["arm"].isin((first, second)), "seed"])
    missing = sorted(int(seed) for seed in asked - pairs.keys())
    return f"Seeds that not both have finished are left out: {', '.join(map(str, missing))}." if missing else ""


def _optimism(sweep: Sweep, pairs: dict[int, tuple[Place, Place]], lines: list[Line]) -> str:
    """By how much validation, which the rounds were selected on, looked better than test."""
    val = sweep.rounds.set_index(["trial_id", "round"])[["val_f1", "val_eodd"]]
    test = {line.metric: (line.first, line.second) for line in lines}
    told = []
    for side, letter in enumerate("AB"):
        means = val.loc[[pair[side] for pair in pairs.values()]].mean()
        f1, eodd = means["val_f1"] - test["f1"][side], test["eodd"][side] - means["val_eodd"]
        told.append(f"{letter} F1 {f1:+.4f}, Eodd {eodd:+.4f}")
    return f"Optimism (by how much validation looked better than test): {'; '.join(told)}."
