"""Each base method's validation gap beside vanilla's, alone and under SCP, from the ledger of synthetic-methods.

Run: scp-ray sweep synthetic-methods --out OUT && python -m benchmarks.mitigations OUT/synthetic-methods
Prints a table: means over seeds, and the mean difference to vanilla of the same seed with its 95 % t interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import scp_ray

GAP = "val_eodd"


def main() -> None:
    """Read the ledger, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path)
    sweep = scp_ray.load_sweep(parser.parse_args().sweep)
    rows = sweep.rounds.merge(sweep.trials[["trial_id", "arm"]].drop_duplicates("trial_id"), on="trial_id")
    vanilla = at(rows, "vanilla", 0)
    part = "F1 | Eodd | less than vanilla by (95 %)"
    print(f"| method | alone: {part} | under SCP: {part} |")
    print("|---|---|---|---|---|---|---|")
    for arm in dict.fromkeys(sweep.trials["arm"]):
        cells = [cell for index in (0, int(rows["round"].max())) for cell in described(at(rows, arm, index), vanilla)]
        print(f"| {arm} | {' | '.join(cells)} |")


def at(rows: pd.DataFrame, arm: str, index: int) -> pd.DataFrame:
    """One round of every seed."""
    chosen = rows[(rows["arm"] == arm) & (rows["round"] == index)]
    return chosen.set_index("seed").sort_index()


def described(rows: pd.DataFrame, vanilla: pd.DataFrame) -> list[str]:
    """Mean F1, mean gap, and how much less than vanilla's of the same seed it is."""
    less = (vanilla[GAP] - rows[GAP]).dropna().to_numpy()
    if np.allclose(less, 0):
        interval = "-"
    else:
        half = stats.t.ppf(0.975, len(less) - 1) * less.std(ddof=1) / np.sqrt(len(less))
        interval = f"{less.mean():+.3f} ({less.mean() - half:+.3f} to {less.mean() + half:+.3f})"
    return [f"{rows['val_f1'].mean():.3f}", f"{rows[GAP].mean():.3f}", interval]


if __name__ == "__main__":
    main()
