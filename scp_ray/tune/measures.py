"""What a trial of a search is worth: the objectives and constraints of the round that speaks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scp_ray.config import ResolvedTrial
from scp_ray.config.search import SearchConfig
from scp_ray.errors import DivergedError
from scp_ray.ledger.records import Row
from scp_ray.tune.racing import Measured
from scp_ray.tune.record import selected_round


def measure(trial: ResolvedTrial, rows: Sequence[Row], vanilla: Row, search: SearchConfig) -> Measured:
    """From a trial's rows (round 0 first) and round 0 of its seed's vanilla model.

    ``select`` chooses the round, which may be round 0. Raises DivergedError where a number of it is not finite.
    """
    asked = [row for row in rows if row["round"] <= trial.config.rounds]
    chosen = asked[selected_round(trial, asked)]
    references = {"base": asked[0], "vanilla": vanilla}
    costs = []
    for objective in search.objectives:
        value = _number(chosen, objective.metric)
        costs.append(-value if objective.direction == "max" else value)
    violations = []
    for bound in search.constraints:
        reference = _number(references[bound.base], bound.metric) if bound.base else 1.0
        violations.append(bound.violation(_number(chosen, bound.metric), reference))
    return Measured(tuple(costs), tuple(violations))


def _number(row: dict[str, Any], metric: str) -> float:
    value = float(row[metric])
    if not math.isfinite(value):
        why = f" ({row['fate_reason']})" if "_fate_" in metric and row.get("fate_reason") else ""
        raise DivergedError(f"{metric} is {value} at round {row['round']}, the selected one{why}.")
    return value
