"""What has to stand beside the numbers of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scp_ray.ledger import Sweep
from scp_ray.maths.paired import gap_note
from scp_ray.report.answers import Answers
from scp_ray.report.family import Pairs


def fate_note(answers: Answers, pairs: Pairs) -> str:
    """Why FATE has no interval: it divides by a gap that chance alone would show. Empty where it has one."""
    starts = dict.fromkeys((trial_id, 0) for pair in pairs.places.values() for trial_id, _ in pair)
    bases = {tuple(row.items()): row for row in (answers.evidence(start, "eodd") for start in starts)}.values()
    within = [row for row in bases if not row["observed"] > row["floor_high"]]
    if not within:
        return ""
    shown = ", ".join(f"{row['observed']:.4f} (floor up to {row['floor_high']:.4f})" for row in within[:5])
    return (
        f"FATE has no interval: it divides by the base's Eodd, which lies within its noise floor in {len(within)} of "
        f"{len(bases)} base models: {shown}."
    )


def explained(raw: str, excess: str) -> str:
    """Where the words for the raw gap would be others than those for the excess gap."""
    note = gap_note(raw, excess)
    return f"The raw Eodd alone would read {raw!r}: {note}." if note else ""


def left_out(sweep: Sweep, first: str, second: str, pairs: Pairs) -> str:
    """Seeds that one of the two lacks."""
    trials = sweep.trials
    asked = set(trials.loc[trials["arm"].isin((first, second)), "seed"])
    missing = sorted(int(seed) for seed in asked - pairs.places.keys())
    return f"Seeds that not both have finished are left out: {', '.join(map(str, missing))}." if missing else ""


def optimism(sweep: Sweep, pairs: Pairs, means: Mapping[str, Sequence[float]], folds: int) -> str:
    """By how much the selected rounds looked better on validation, which they were selected on, than what is told here.

    ``means``: of f1 and eodd those of both arms: on test, or over ``folds`` of validation.
    """
    val = sweep.rounds.set_index(["trial_id", "round"])[["val_f1", "val_eodd"]]
    told = []
    for side, letter in enumerate("AB"):
        known = val.loc[[pair[side] for pair in pairs.places.values()]].mean()
        f1, eodd = known["val_f1"] - means["f1"][side], means["eodd"][side] - known["val_eodd"]
        told.append(f"{letter} F1 {f1:+.4f}, Eodd {eodd:+.4f}")
    if folds:
        return (
            f"Each image is answered by the round that is selected without it ({folds} folds). Optimism (by how much "
            f"the selected rounds look better on the images that selected them): {'; '.join(told)}."
        )
    return f"Optimism (by how much validation looked better than test): {'; '.join(told)}."
