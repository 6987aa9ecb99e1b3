"""Whether the best arm's gain is real: paired with the models before pruning where that is quick, else its evidence."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep
from scp_ray.report.arms import BASE
from scp_ray.report.compare import Comparison, Line, compare
from scp_ray.report.page.arms import Yardstick
from scp_ray.report.page.words import counted

MOST_COMPARED = 20  # arms; each is resampled for Holm's correction


@dataclass(frozen=True)
class Reality:
    """Words, the command that gives the paired answer, and that answer where it was made."""

    words: str
    command: str = ""
    comparison: Comparison | None = None


def reality_of(sweep: Sweep, best: dict[str, Any], yardstick: Yardstick) -> Reality:
    """Of the best arm (a row of ``arm_rows``) against the models before pruning, on validation."""
    arm, arms, floor = str(best["arm"]), len(sweep.definition["arms"]), _above_floor(best, yardstick)
    if set(best["rounds"].split()) == {"0"}:
        return Reality(f"It is the model before pruning itself: every seed's selected round is round 0. {floor}")
    asked = compare_command(sweep, arm, BASE)
    if arms > MOST_COMPARED:
        why = (
            f"Not shown here: the comparison paired over seeds and images, corrected for all {arms:,} arms, takes its "
            "time. Until it is made, this is the best that was seen, not a difference that was shown."
        )
        return Reality(f"{why} {floor}", asked)
    try:
        found = compare(sweep, arm, BASE)
    except LedgerError as error:
        return Reality(f"There is no paired comparison: {error} {floor}")
    return Reality(f"{_verdicts(found)} {floor}", asked, found)


def compare_command(sweep: Sweep, first: str, second: str) -> str:
    """``scp-ray compare``, to be pasted into a shell."""
    return shlex.join(["scp-ray", "compare", str(sweep.ledger.root), first, second])


def _verdicts(found: Comparison) -> str:
    lines = {line.metric: line for line in found.lines}
    f1, gap = lines["f1"], lines["excess_eodd"]
    return (
        f"Against the models before pruning, paired over {counted(len(found.seeds), 'seed')} and "
        f"{found.n:,} images: F1 is {f1.verdict} ({_interval(f1)}); Eodd above its noise floor is {gap.verdict} "
        f"({_interval(gap)}). Corrected (Holm) for {found.compared} p-values."
    )


def _interval(line: Line) -> str:
    interval = f"95 % interval {line.low:+.4f} to {line.high:+.4f}" if line.low == line.low else "no interval"
    return f"{line.difference:+.4f}, {interval}"


def _above_floor(best: dict[str, Any], yardstick: Yardstick) -> str:
    gap, title = yardstick.gap, yardstick.gap_title
    above, p = best[f"above_{gap}"], best[f"{gap}_p"]
    if above != above:
        return f"There is no evidence on its {title}: the predictions are gone, or there are more than two groups."
    if above:
        seeds = f"{above:.0f} of {counted(best['seeds'], 'seed')}"
        return f"The {title} that is left lies above its noise floor in {seeds} (median p {p:.3f})."
    return f"The {title} that is left lies within its noise floor in every seed (median p {p:.3f}): none is shown."
