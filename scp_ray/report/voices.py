"""Which round answers which image, where the round of a trial was chosen on the very images that are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from scp_ray.loop.stopping import Standing, StopRule, select_round, stop_reasons
from scp_ray.maths.crossfit import chosen_without
from scp_ray.maths.fate import fate
from scp_ray.maths.rates import Floats


@dataclass(frozen=True)
class Voice:
    """What speaks for an arm at one seed: by fold of the images the round that answers them; of one, for all."""

    trial_id: str
    rounds: tuple[int, ...]


def voice_of(
    trial_id: str,
    said: NDArray[Any],
    label: NDArray[Any],
    group: NDArray[Any],
    fold: NDArray[Any],
    config: Mapping[str, Any],
    num_classes: int,
) -> Voice:
    """By the arm's own rules, of the predictions (R, N) of its rounds from 0 on."""
    rule = StopRule(**config["stop"])

    def choose(metrics: dict[str, Floats]) -> int:
        standings = [Standing(float(f1), float(gap)) for f1, gap in zip(metrics["f1"], metrics[rule.gap], strict=True)]
        first = {"f1_baseline": standings[0].f1, "gap_baseline": standings[0].gap}
        fates = [fate(each.f1, each.gap, **first) for each in standings]
        return select_round(config["select"], fates, stop_reasons(standings, rule))

    return Voice(trial_id, chosen_without(label, group, said, fold, choose, num_classes=num_classes))
