"""What has to be kept in mind beside the answer: weak denominators, missing controls, base models that guess."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.page.reality import compare_command
from scp_ray.report.page.words import counted
from scp_ray.report.yardstick import Yardstick

Said = tuple[str, str, str]  # title, words, command


def caveats(sweep: Sweep, best: dict[str, Any], whole: pd.DataFrame, yardstick: Yardstick) -> list[Said]:
    """Of the best arm, among the arms that are whole (rows of ``arm_rows``)."""
    return [said for said in (_more_training(sweep, best, whole, yardstick), _denominator(best, yardstick)) if said[1]]


def _more_training(sweep: Sweep, best: dict[str, Any], whole: pd.DataFrame, yardstick: Yardstick) -> Said:
    """Pruned arms get epochs that the base does not: only the control tells the two apart."""
    title = "Or only more training?"
    criteria = {arm["label"]: _criterion(arm) for arm in sweep.definition["arms"]}
    if criteria[best["arm"]] == "none":
        return (title, "It is: this arm prunes nothing (criterion none) and only trains on.", "")
    rows = whole[whole["arm"].map(criteria) == "none"]
    if not len(rows):
        return (title, "The sweep does not say: it has no control with criterion none, the same epochs unpruned.", "")
    row = rows.iloc[0]
    words = (
        f"The best control that trains as long and prunes nothing, {row['arm']}, reaches F1 {row['f1']:.4f} and "
        f"{yardstick.gap_title} {row[yardstick.gap]:.4f}. The difference, paired:"
    )
    return (title, words, compare_command(sweep, str(best["arm"]), str(row["arm"])))


def _denominator(best: dict[str, Any], yardstick: Yardstick) -> Said:
    within = best[f"base_within_{yardstick.gap}"]
    if not within > 0:
        return ("", "", "")
    seeds = f"{within:.0f} of {counted(best['seeds'], 'seed')}"
    words = (
        f"The model before pruning shows {yardstick.gap_title} within its noise floor in {seeds}: there FATE divides "
        "by what chance alone would show."
    )
    return ("Was there a gap?", words, "")


def _criterion(arm: dict[str, Any]) -> str:
    criterion = arm["config"].get("criterion", "")
    return str(criterion.get("name", "")) if isinstance(criterion, dict) else str(criterion)
