"""Which runs of a search are stopped early: asynchronous successive halving over pruning rounds. Arithmetic alone.

Rule of Li et al. 2020 (ASHA), of its stopping kind: at round grace, grace * reduction, grace * reduction^2, ... a run
goes on where it is among the best 1/reduction of all that have come so far, or the best of fewer than ``reduction``.
"""

from __future__ import annotations

from collections import defaultdict

from scp_ray.config.search import Halving
from scp_ray.tune.racing import Measured

Worth = tuple[float, float]  # less is better: by how much constraints are missed in all, then the objective


def worth(measured: Measured) -> Worth:
    """What keeps its constraints comes before what does not, as Optuna's samplers have it."""
    return sum(max(0.0, violation) for violation in measured.violations), measured.costs[0]


class Rungs:
    """What runs were worth at the rounds where it is decided.

    Runs are compared with those of their own seed: these began with the same base models, so that what sets them apart
    is the configuration.
    """

    def __init__(self, rule: Halving, rounds: int) -> None:
        self._reduction = rule.reduction
        self.rungs = rule.rungs(rounds)
        self._reached: dict[tuple[int, int], dict[str, Worth]] = defaultdict(dict)  # (rung, seed) -> trial id -> worth

    def note(self, rung: int, seed: int, trial_id: str, measured: Measured) -> None:
        """A run has come to a rung. Told once more, the last value counts."""
        self._reached[rung, seed][trial_id] = worth(measured)

    def place(self, rung: int, seed: int, trial_id: str) -> tuple[int, int, int]:
        """(its place from 1, ties shared; how many have come so far; the last place that goes on)."""
        known = self._reached[rung, seed]
        better = sum(other < known[trial_id] for other in known.values())
        return better + 1, len(known), max(1, len(known) // self._reduction)
