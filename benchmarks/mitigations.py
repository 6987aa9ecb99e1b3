"""Each base method's validation gap beside vanilla's, alone and under SCP, from the ledger of synthetic-methods.

Run: scp-ray sweep synthetic-methods --out OUT && python -m benchmarks.mitigations OUT/synthetic-methods
Prints a table: means over seeds, the mean difference to vanilla of the same seed with its 95 % t interval, and its p
after Holm's correction over all differences of the table. Gaps are raw, not their excess over a noise floor.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import scp_ray
from scp_ray.maths.paired import holm

GAP = "val_eodd"


def main() -> None:
    """Read the ledger, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    sweep = scp_ray.load_sweep(parser.parse_args().sweep)
    rows = sweep.rounds.merge(sweep.trials[["trial_id", "arm"]].drop_duplicates("trial_id"), on="trial_id")
    rounds = (0, int(rows["round"].max()))
    arms = {arm: [at(rows, arm, index) for index in rounds] for arm in dict.fromkeys(sweep.trials["arm"])}
    print("\n".join(table(arms)))


def at(rows: pd.DataFrame, arm: str, index: int) -> pd.DataFrame:
    """One round of every seed."""
    chosen = rows[(rows["arm"] == arm) & (rows["round"] == index)]
    return chosen.set_index("seed").sort_index()


def table(arms: Mapping[str, list[pd.DataFrame]]) -> list[str]:
    """Lines of Markdown: of each arm its seeds' rows alone, and under SCP."""
    vanilla = arms["vanilla"][0]
    found = [(arm, rows, (vanilla[GAP] - rows[GAP]).dropna()) for arm, both in arms.items() for rows in both]
    adjusted = holm([two_sided(less) for *_, less in found])
    part = "F1 | Eodd | less than vanilla by (95 %) | p (Holm)"
    lines = [f"| method | alone: {part} | under SCP: {part} |", "|---" * 9 + "|"]
    cells: dict[str, list[str]] = {}
    for (arm, rows, less), p in zip(found, adjusted, strict=True):
        means = [f"{rows['val_f1'].mean():.3f}", f"{rows[GAP].mean():.3f}"]
        cells.setdefault(arm, []).extend([*means, *(["-", "-"] if np.isnan(p) else [interval(less), f"{p:.3f}"])])
    return lines + [f"| {arm} | {' | '.join(each)} |" for arm, each in cells.items()]


def two_sided(less: pd.Series) -> float:
    """p of a mean of 0, by t; NaN, which Holm's correction does not count, where nothing differs or of one seed."""
    if len(less) < 2 or np.allclose(less, 0):
        return float("nan")
    return float(stats.ttest_1samp(less, 0).pvalue)


def interval(less: pd.Series) -> str:
    """Mean difference over seeds and its 95 % t interval."""
    half = stats.t.ppf(0.975, len(less) - 1) * less.std(ddof=1) / np.sqrt(len(less))
    return f"{less.mean():+.3f} ({less.mean() - half:+.3f} to {less.mean() + half:+.3f})"


if __name__ == "__main__":
    main()
