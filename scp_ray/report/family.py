"""An arm's paired differences to a baseline, beside those of every other arm: what Holm's correction counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scp_ray.ledger import Sweep
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.paired import PairedDifference, holm, paired_differences
from scp_ray.report.answers import Answers, Place, places
from scp_ray.report.arms import BASE
from scp_ray.report.voices import Voice

Differences = dict[str, PairedDifference]  # by metric


@dataclass(frozen=True)
class Pairs:
    """Two arms over the seeds that both have finished; seeds that one has not are left out."""

    places: dict[int, tuple[Place, Place]]  # by seed the selected rounds of both
    voices: tuple[tuple[Voice, Voice], ...]  # by seed in order what speaks for them

    @property
    def one(self) -> bool:
        """Whether both are the same rounds of the same trials."""
        return all(first == second for first, second in self.voices)

    def side(self, which: int) -> list[Voice]:
        """One arm's, over seeds."""
        return [pair[which] for pair in self.voices]


def pairs_of(sweep: Sweep, answers: Answers, first: str, second: str) -> Pairs:
    """Two arms by label, or BASE."""
    configs = {str(arm["label"]): arm["config"] for arm in sweep.definition["arms"]} | {BASE: None}
    left, right = places(sweep, first, second), places(sweep, second, first)
    found = {seed: (left[seed], right[seed]) for seed in sorted(left.keys() & right.keys())}
    voices = ((answers.voice(a, configs[first]), answers.voice(b, configs[second])) for a, b in found.values())
    return Pairs(found, tuple(voices))


def differences_of(answers: Answers, pairs: Pairs) -> Differences:
    """Every metric's paired difference; each arm's FATE is against its own round 0."""
    sides = [pairs.side(0), pairs.side(1)]
    first, second = (answers.of(side) for side in sides)
    starts = [answers.of([Voice(voice.trial_id, (0,)) for voice in side]) for side in sides]
    floors = {gap: [[answers.floor_mean(voice, gap) for voice in side] for side in sides] for gap in GAPS}
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
        floors={gap: (both[0], both[1]) for gap, both in floors.items()},
    )


def family_of(
    sweep: Sweep,
    answers: Answers,
    baseline: str,
    known: Mapping[tuple[tuple[Voice, Voice], ...], Differences],
    told: Callable[[int], None],
) -> dict[str, Differences]:
    """By arm its differences to the baseline.

    Arms that are the same trials share them; one that is the baseline's own trials has none. ``known`` are differences
    that are there already, with either sign. ``told`` is given how many arms there are.
    """
    others = [str(arm["label"]) for arm in sweep.definition["arms"] if arm["label"] != baseline]
    told(len(others))
    made, family = dict(known), {}
    for label in others:
        pairs = pairs_of(sweep, answers, label, baseline)
        if not pairs.voices or pairs.one:
            continue
        if pairs.voices not in made:
            made[pairs.voices] = differences_of(answers, pairs)
        family[label] = made[pairs.voices]
    return family


def adjusted(family: Mapping[str, Differences], metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """By arm and metric Holm's p over all these metrics and arms, those that are the same trials counted once."""
    distinct = _distinct(family)
    keys = [(place, metric) for place in distinct for metric in metrics]
    p = holm([distinct[place][metric].p_value for place, metric in keys])
    found = dict(zip(keys, p, strict=True))
    return {label: {metric: found[id(each), metric] for metric in metrics} for label, each in family.items()}


def compared(family: Mapping[str, Differences], metrics: Sequence[str]) -> int:
    """How many p-values that are."""
    return sum(not math.isnan(each[metric].p_value) for each in _distinct(family).values() for metric in metrics)


def _distinct(family: Mapping[str, Differences]) -> dict[int, Differences]:
    return {id(each): each for each in family.values()}
