"""What every caption says: of which images, seeds and rounds the numbers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from scp_ray.config.arms import arm_label
from scp_ray.report.recorded import Recorded

FLOOR = "what the same errors would show were the model fair: groups permuted inside each class, 95 of 100 cases"


def told_of(sweep: Recorded, arms: Iterable[str], *, selected: bool) -> str:
    """ "Validation split, n = 400 images; seeds 0, 1; selection rule: best_val_fate"; ``selected``: of such rounds."""
    arms = set(arms)
    trials = sweep.trials[sweep.trials["arm"].isin(arms)]
    rounds = sweep.rounds
    own = rounds[rounds["trial_id"].isin(set(trials["trial_id"]))] if len(rounds) else rounds
    images = sorted({int(n) for n in own["val_n"].dropna()}) if "val_n" in own else []
    rules = sorted({str(arm["config"]["select"]) for arm in sweep.definition["arms"] if arm["label"] in arms})
    shown = "" if selected else " (all rounds are shown)"
    return (
        f"Validation split, n = {listed(images) or 'unknown'} images; {seeds_of(trials)}; "
        f"selection rule: {', '.join(rules)}{shown}"
    )


def seeds_of(trials: pd.DataFrame) -> str:
    """ "seeds 0, 1, 2"; of many their number and range."""
    seeds = sorted({int(seed) for seed in trials["seed"]})
    if len(seeds) > 6:
        return f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"
    return f"seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}"


def listed(values: Iterable[object]) -> str:
    """ "1, 2, 3"."""
    return ", ".join(str(value) for value in values)


def cut(text: str, letters: int) -> str:
    """At most this many letters; what was longer ends in an ellipsis."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def layer_text(row: Mapping[Any, Any] | pd.Series) -> str:
    """ "layer 8 (module features.18)" of a round's row."""
    number, name = row.get("layer"), row.get("layer_name")
    place = f"layer {int(number)}" if number == number and number is not None else "the layer"
    return f"{place} (module {name})" if isinstance(name, str) else place


def value_text(value: object) -> str:
    """A setting as an arm's label shows it."""
    return arm_label({"x": value}).partition("=")[2]


def sentences(parts: Iterable[str]) -> str:
    """One after the other, each with a capital and a full stop; empty ones are left out."""
    return " ".join(f"{part[0].upper()}{part[1:].rstrip('.')}." for part in parts if part)
