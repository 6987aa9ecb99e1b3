"""What has to stand beside a table in the paper's form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.maths.gaps import GAPS
from scp_ray.report.paper_beside import Beside
from scp_ray.report.paper_entries import Entry, Model, against_base
from scp_ray.report.paper_marks import MODELS, Marks
from scp_ray.report.paper_numbers import Said
from scp_ray.report.published import TABLES

_SPLITS = {"val": "Validation", "test": "Test"}


def caption(
    sweep: Sweep,
    split: str,
    frame: pd.DataFrame,
    said: Said,
    entries: Sequence[Entry],
    marks: Marks,
    printed: Sequence[Beside],
) -> str:
    """n, seeds, split, selection rule; what ± and the words mean; where the paper's numbers come from."""
    images = sorted({int(n) for e in entries for m in e.models.values() if (n := said.number(m, "n")) == n})
    seeds = sorted({seed for entry in entries for seed in entry.models})
    arms = sweep.definition["arms"]
    rules = sorted({arm["config"]["select"] for arm in arms})
    relative = (
        "each method's own model before pruning" if against_base(sweep) else "the vanilla model of the same backbone"
    )
    parts = [
        f"{sweep.definition['name']}: {_listed(_named(arms, 'dataset'))}, {_listed(_named(arms, 'backbone'))}. "
        f"{_SPLITS.get(split, split)} split, n = {_listed(images)} images; {_seeds(seeds)}; rounds selected on "
        f"validation by {_listed(rules)}, {len(arms)} configuration{'s' * (len(arms) != 1)} in the sweep.",
        "Means over seeds, ± half of a 95 % interval: of F1's average and of gaps over seeds and images, of precision "
        "and recall over seeds alone."
        if len(seeds) > 1
        else "One training; ± half of a 95 % interval, over images alone.",
        "floor: the gap that the same predictions show with groups permuted inside each class.",
        f"FATE: relative to {relative}, seed by seed; ± only where that model's gap lies above its floor.",
    ]
    if marks.words:
        one = " For this one training." if len(seeds) == 1 else ""
        parts.append(
            "better, worse: in F1, and in Eodd beyond its floor, than that model; paired by seed and image, Holm over "
            f"{marks.compared} p-values; without a word: not distinguishable at this n.{one}"
        )
    if printed:
        titles = sorted({TABLES[each.row.table].title for each in printed})
        parts.append(
            f"In brackets: what the paper prints ({_listed(titles)}; test split of "
            f"{TABLES[printed[0].row.table].dataset}, {TABLES[printed[0].row.table].backbone}, one training)."
        )
    return " ".join(parts)


def notes(sweep: Sweep, frame: pd.DataFrame, marks: Marks, models: Collection[Model]) -> list[str]:
    """What is missing and why, and where the raw gap would say something else."""
    once = frame[frame["line"] == "Avg"]
    said = []
    if len(sweep.trials) and (left := int((sweep.trials["status"] != "done").sum())):
        said.append(f"{left} of {len(sweep.trials)} trials are not finished, and left out.")
    if len(empty := once.loc[once["seeds"] == 0, "method"]):
        said.append(f"-: nothing is finished yet of {_listed(list(empty))}.")
    counts = once.loc[once["seeds"] > 0, "seeds"]
    if counts.nunique() > 1:
        short = [f"{m} ({n})" for m, n in zip(once["method"], once["seeds"], strict=True) if 0 < n < counts.max()]
        said.append(f"Fewer seeds than the others have: {_listed(short)}.")
    for gap in GAPS:
        title = gap.capitalize()
        lacking = once.loc[once[f"fate_{gap}_undefined"] > 0, ["method", f"fate_{gap}_undefined"]]
        told = [f"{method} ({count})" for method, count in lacking.itertuples(index=False)]
        if told:
            said.append(f"FATE of {title} is undefined in some seeds (its baseline's gap is 0): {_listed(told)}.")
    within = {gap: once[f"fate_{gap}_base_within_floor"] & once[f"{gap}_floor"].notna() for gap in GAPS}
    if noise := [
        f"{gap.capitalize()} of {_listed(sorted(set(once.loc[rows, 'relative_to'])))}"
        for gap, rows in within.items()
        if rows.any()
    ]:
        said.append(f"FATE has no interval where it divides by a gap that chance alone would show: {'; '.join(noise)}.")
    if once.loc[once["seeds"] > 0, "eodd_floor"].isna().any():
        many = f" (of test predictions, for {MODELS} models at most)" if len(models) > MODELS else ""
        said.append(f"No evidence for some rows: no floor, and no interval of F1 and gaps{many}.")
    return [*said, *marks.notes]


def _named(arms: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    """The data sets or backbones of the arms."""
    return list(dict.fromkeys(str(arm["config"].get(what, {}).get("name", f"unknown {what}")) for arm in arms))


def _seeds(seeds: Sequence[int]) -> str:
    if not seeds:
        return "no seed is finished"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) > 1)} {_listed(list(seeds))}"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:12])) + (f" and {len(values) - 12} more" if len(values) > 12 else "") or "unknown"
