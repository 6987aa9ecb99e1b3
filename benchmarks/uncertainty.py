"""What noise floors and evidence cost, on one core, against a loop over the same reports.

    OMP_NUM_THREADS=1 python -m benchmarks.uncertainty [--repeats 5] [--looped 20]

A line for each table and question: ``floor`` (one gap, 1,000 permutations), ``errors`` (every metric of 1,000
redrawings; the 20 permutations that it cannot do without included), ``round`` (the evidence of two splits). The loop
permutes, or redraws, with numpy and makes a report each time; it is timed over ``looped`` of them and scaled.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import in_turns, tell
from benchmarks.planted_arms import ACCURACY, Table, read_table
from scp_ray.maths.report import fairness_report
from scp_ray.maths.uncertainty import evidence, noise_floor


def main() -> None:
    """Both published test tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--looped", type=int, default=20, help="reports that the loop makes")
    options = parser.parse_args()
    for name in ("fitzpatrick", "isic"):
        measure(read_table(name), options.repeats, options.looped)


def measure(table: Table, repeats: int, looped: int) -> None:
    """Three lines."""
    rng = np.random.default_rng(0)
    count = len(table.label)
    luck, wrong = rng.random(count), table.label[rng.integers(count, size=count)]
    said = np.where(luck < ACCURACY[table.name], table.label, wrong)
    data = (table.label, said, table.group)
    known: dict[str, Any] = {"num_classes": table.classes, "unit": table.unit}

    def errors() -> None:
        evidence(*data, **known, permutations=20, draws=1000)

    def whole_round() -> None:
        for seed in (0, 1):
            evidence(*data, **known, seed=seed)

    floor_s, errors_s, round_s, permuting, redrawing = in_turns(
        lambda: noise_floor(*data, **known),
        errors,
        whole_round,
        lambda: loop(table, said, looped, redrawn=False),
        lambda: loop(table, said, looped, redrawn=True),
        repeats=repeats,
    )
    permuted_s, redrawn_s = permuting * 1000 / looped, redrawing * 1000 / looped
    for what, took, plain in (
        ("floor", floor_s, permuted_s),
        ("errors", errors_s, redrawn_s),
        ("round", round_s, 2 * (permuted_s + redrawn_s)),
    ):
        tell(
            what=what,
            table=table.name,
            images=count,
            seconds=round(took, 3),
            loop_s=round(plain, 2),
            ratio=round(plain / took, 1),
        )


def loop(table: Table, said: NDArray[np.int64], times: int, *, redrawn: bool) -> None:
    """Reports one by one: of groups permuted inside each class, or of images redrawn inside each class and group."""
    rng = np.random.default_rng(0)
    kind = table.label * 2 + table.group if redrawn else table.label
    members = [np.flatnonzero(kind == one) for one in np.unique(kind)]
    for _ in range(times):
        if redrawn:
            picked = np.concatenate([rng.choice(rows, len(rows)) for rows in members])
            label, prediction, group = table.label[picked], said[picked], table.group[picked]
        else:
            label, prediction, group = table.label, said, table.group.copy()
            for rows in members:
                group[rows] = rng.permutation(table.group[rows])
        fairness_report(label, prediction, group, num_classes=table.classes)


if __name__ == "__main__":
    main()
