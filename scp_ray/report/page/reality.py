"""Whether the best arm's gain is real: paired with the models before pruning where that is quick, else its evidence."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from scp_ray.errors import ConfigError, LedgerError
from scp_ray.ledger import Sweep
from scp_ray.report.arms import BASE
from scp_ray.report.compare import Comparison, Line, compare
from scp_ray.report.page.words import counted
from scp_ray.report.yardstick import Yardstick

MOST_COMPARED = 20  # arms; each is resampled for Holm's correction
UNKNOWN = "It is the best that was seen; that it is better than before pruning is not shown here."


@dataclass(frozen=True)
class Reality:
    """Whether it is, in a line and at length; the command that gives the paired answer, and that answer if made."""

    verdict: str
    words: str
    command: str = ""
    comparison: Comparison | None = None


def reality_of(sweep: Sweep, best: dict[str, Any], yardstick: Yardstick) -> Reality:
    """Of the best arm (a row of ``arm_rows``) against the models before pruning, on validation."""
    arm, arms, floor = str(best["arm"]), len(sweep.definition["arms"]), _above_floor(best, yardstick)
    if best["rounds"] == "0":
        return Reality("", f"It is the model before pruning itself: every seed's selected round is round 0. {floor}")
    asked = compare_command(sweep, arm, BASE)
    if arms > MOST_COMPARED:
        why = f"The comparison paired over seeds and images, corrected for all {arms:,} arms, is made by this command."
        return Reality(UNKNOWN, f"{_intervals(best, yardstick)}{floor} {why}", asked)
    try:
        found = compare(sweep, arm, BASE)
    except (ConfigError, LedgerError) as error:  # nothing to pair, predictions that are gone, an arm named "base"
        return Reality(UNKNOWN, f"There is no paired comparison: {error} {_intervals(best, yardstick)}{floor}")
    return Reality(_verdict(found), f"{_differences(found)} {floor}", asked, found)


def compare_command(sweep: Sweep, first: str, second: str) -> str:
    """``scp-ray compare``, to be pasted into a shell."""
    return shlex.join(["scp-ray", "compare", str(sweep.ledger.root), first, second])


def _verdict(found: Comparison) -> str:
    """ "Against the model before pruning: F1 better; Eodd above its noise floor not distinguishable at this n"."""
    words = {line.metric: line.verdict for line in found.lines}
    f1, gap = words["f1"], words["excess_eodd"]
    start = "Against the models before pruning, "
    if f1 == gap:
        return f"{start}F1 and Eodd are both {f1}."
    return f"{start}F1 is {f1}; Eodd is {gap}."


def _differences(found: Comparison) -> str:
    lines = {line.metric: line for line in found.lines}
    f1, gap = lines["f1"], lines["excess_eodd"]
    each = ", each answered by the round that is selected without it," if found.folds else ","
    return (
        f"Paired over {counted(len(found.seeds), 'seed')} and {found.n:,} images{each} F1 differs by {_interval(f1)}; "
        f"Eodd above its noise floor by {_interval(gap)}. The words are corrected (Holm) for {found.compared} p-values."
    )


def _interval(line: Line) -> str:
    interval = f"95 % interval {line.low:+.4f} to {line.high:+.4f}" if line.low == line.low else "no interval"
    return f"{line.difference:+.4f} ({interval})"


def _intervals(best: dict[str, Any], yardstick: Yardstick) -> str:
    """The ledger's own intervals side by side, which say less than a paired difference; empty without evidence."""
    gap = yardstick.gap
    if best[f"{gap}_low"] != best[f"{gap}_low"]:
        return ""
    told = [
        f"{title} {best[f'{name}_low']:.4f} to {best[f'{name}_high']:.4f} (before pruning "
        f"{best[f'before_{name}_low']:.4f} to {best[f'before_{name}_high']:.4f})"
        for name, title in (("f1", "F1"), (gap, yardstick.gap_title))
    ]
    return f"95 % intervals of the images alone, ends averaged over seeds: {'; '.join(told)}. "


def _above_floor(best: dict[str, Any], yardstick: Yardstick) -> str:
    gap, title = yardstick.gap, yardstick.gap_title
    above, p = best[f"above_{gap}"], best[f"{gap}_p"]
    if above != above:
        return f"There is no evidence on its {title}: the predictions are gone, or there are more than two groups."
    if above:
        seeds = f"{above:.0f} of {counted(best['seeds'], 'seed')}"
        return f"The {title} that is left lies above its noise floor in {seeds} (median p {p:.3f})."
    return f"The {title} that is left lies within its noise floor in every seed (median p {p:.3f}): none is shown."
