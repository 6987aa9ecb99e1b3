"""What gaps would fair classifiers show on the published test tables? Their noise floors, beside the paper's numbers.

    python -m benchmarks.published_floors > scp_ray/report/published_floors.csv     # about two minutes

The paper prints no predictions, so that the floor of its own models cannot be had. In their place stand classifiers
that are fair by construction: right with one probability in both groups, else with a label drawn from the table's. Each
one's noise floor is its permutation null (lesions whole where they are known); a row holds the means over classifiers
of the floor's mean and of both ends of its 95 % band.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator

import numpy as np

from benchmarks.calibration import answers
from benchmarks.planted_arms import ACCURACY, Table, read_table
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.uncertainty import noise_floor

NAMES = {"fitzpatrick": "Fitzpatrick-17k", "isic": "ISIC 2019"}
COLUMNS = ("dataset", "gap", "mean", "low", "high", "accuracy", "n", "units", "classes", "classifiers", "permutations")


def main() -> None:
    """The data file of ``scp-ray published``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classifiers", type=int, default=60)
    parser.add_argument("--permutations", type=int, default=1000)
    options = parser.parse_args()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name in NAMES:
        writer.writerows(rows(read_table(name), options.classifiers, options.permutations))


def rows(table: Table, classifiers: int, permutations: int) -> Iterator[tuple[str | int | float, ...]]:
    """A row per gap, as COLUMNS say."""
    rng = np.random.default_rng(0)
    said = [answers(table, 0.0, False, rng) for _ in range(classifiers)]
    units = len(np.unique(table.unit))
    for gap in GAPS:
        floors = [
            noise_floor(
                table.label, each, table.group, gap=gap, num_classes=table.classes, unit=table.unit,
                permutations=permutations,
            )
            for each in said
        ]  # fmt: skip
        found = [[floor.mean, floor.low, floor.high] for floor in floors]
        mean, low, high = (round(float(value), 5) for value in np.mean(found, axis=0))
        yield (
            *(NAMES[table.name], gap, mean, low, high, ACCURACY[table.name], len(table.label), units, table.classes),
            *(classifiers, permutations),
        )


if __name__ == "__main__":
    main()
