"""When the loop stops, and which round speaks for a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge

from scp_ray.errors import ConfigError
from scp_ray.parts import Evaluation

Gap = Literal["eopp0", "eopp1", "eodd"]


@dataclass(frozen=True)
class StopRule:
    """Stop when F1 has fallen by more than th_acc of its first value, or the gap by less than th_fair in a round.

    ``enforce: false`` goes on past it and records where it would have stopped.
    """

    th_acc: Annotated[float, Ge(0)] = 0.03
    th_fair: float = 0.0
    gap: Gap = "eodd"
    enforce: bool = False


class Standing(NamedTuple):
    """What the rule looks at, of one round on validation."""

    f1: float
    gap: float

    @classmethod
    def of(cls, outputs: Evaluation, rule: StopRule) -> Standing:
        """The mean-of-groups macro F1 and the rule's gap."""
        return cls(outputs.report.f1_mean, outputs.report.gap(rule.gap))


def stop_reason(first: Standing, before: Standing, now: Standing, rule: StopRule) -> str:
    """Why the rule stops at ``now``, or the empty string.

    (F1_0 - F1_t) / F1_0 > th_acc, or FC_{t-1} - FC_t < th_fair. A comparison with NaN never stops.
    """
    if first.f1 > 0 and (first.f1 - now.f1) / first.f1 > rule.th_acc:
        return f"accuracy: F1 fell from {first.f1:.4f} to {now.f1:.4f}, by more than th_acc {rule.th_acc:g}"
    if before.gap - now.gap < rule.th_fair:
        return (
            f"fairness: {rule.gap} went from {before.gap:.4f} to {now.gap:.4f}, "
            f"an improvement below th_fair {rule.th_fair:g}"
        )
    return ""


def stop_reasons(standings: Sequence[Standing], rule: StopRule) -> list[str]:
    """``stop_reason`` of every round, round 0 (never stopped at) first."""
    return ["", *(stop_reason(standings[0], *pair, rule) for pair in pairwise(standings))]


def parse_select(rule: str) -> tuple[str, int | None]:
    """("best_val_fate", None), ("round", n) or ("last", None). Raises ConfigError."""
    if rule in ("best_val_fate", "last"):
        return rule, None
    head, _, number = rule.partition(":")
    if head == "round" and number.isdecimal():
        return "round", int(number)
    raise ConfigError(f"select: got {rule!r}; allowed are 'best_val_fate', 'last' and 'round:n', e.g. 'round:3'.")


def check_select(rule: str, rounds: int) -> None:
    """Raises ConfigError for what is no rule, or for a round after the last of so many."""
    number = parse_select(rule)[1]
    if number is not None and number > rounds:
        raise ConfigError(
            f"select: got {rule!r} with rounds: {rounds}; allowed are 'round:0' to 'round:{rounds}'. Name one of them, "
            "or run more rounds."
        )


def select_round(rule: str, fates: Sequence[float], stop_reasons: Sequence[str]) -> int:
    """The round that speaks for a trial; index 0 of both sequences is round 0.

    * best_val_fate: the highest validation FATE against the trial's own base; the earliest on a tie. Round 0
      has FATE 0 and wins where nothing beats it, or where FATE is undefined throughout.
    * round:n: round n, or the last one there is of a trial that was stopped before it.
    * last: the last round before the stop rule first spoke; the last of all where it never did.
    """
    kind, number = parse_select(rule)
    final = len(fates) - 1
    if kind == "round":
        return min(int(number or 0), final)
    if kind == "last":
        stops = [index for index, reason in enumerate(stop_reasons) if reason]
        return stops[0] - 1 if stops else final
    defined = [(-value, index) for index, value in enumerate(fates) if not math.isnan(value)]
    return min(defined)[1] if defined else 0
