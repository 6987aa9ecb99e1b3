"""What the noise floor, redrawn metrics and the evidence of one round cost, beside a plain loop over reports.

    python -m benchmarks.uncertainty

On the published Fitzpatrick-17k test table (1,657 images, 114 classes). CPU seconds of this one process, medians of
several turns, so that other work on the machine matters less; the loop is measured on a few tables and scaled.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks.calibration import answers
from benchmarks.measure import tell
from benchmarks.planted_arms import read_table
from scp_ray.maths.kinds import Kinds
from scp_ray.maths.redrawn import standard_errors
from scp_ray.maths.report import fairness_report
from scp_ray.maths.uncertainty import FLOORED, evidence, noise_floor
from scp_ray.maths.units import Units

TABLES = 1000  # permutations, and draws


def main() -> None:
    """Three lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--looped", type=int, default=20, help="tables that the plain loop makes")
    options = parser.parse_args()
    table, rng = read_table("fitzpatrick"), np.random.default_rng(0)
    label, group, classes = table.label, table.group, table.classes
    said = answers(table, 0.1, False, rng)
    units = Units(label, group, None, num_classes=classes)

    def permuted() -> None:
        """Groups shuffled within each class, and a report for each."""
        for _ in range(options.looped):
            codes = group.copy()
            for c in range(classes):
                codes[label == c] = rng.permutation(codes[label == c])
            fairness_report(label, said, codes, num_classes=classes)

    def redrawn() -> None:
        """Images drawn again within each class and group, and a report for each."""
        cells = [np.flatnonzero((label == c) & (group == g)) for c in range(classes) for g in (0, 1)]
        for _ in range(options.looped):
            rows = np.concatenate([rng.choice(cell, len(cell)) for cell in cells if len(cell)])
            fairness_report(label[rows], said[rows], group[rows], num_classes=classes)

    def bootstrap() -> None:
        kinds = Kinds(label, said, units, num_classes=classes)
        standard_errors(kinds, dict.fromkeys(FLOORED, 0.5), TABLES, rng)

    def one_round() -> None:
        for _ in ("val", "test"):
            evidence(label, said, group, num_classes=classes, permutations=TABLES, draws=TABLES)

    def both() -> None:
        permuted()
        redrawn()

    def floor() -> None:
        noise_floor(label, said, group, num_classes=classes, permutations=TABLES)

    for name, ours, loop, splits in (
        ("noise_floor", floor, permuted, 1),
        ("redrawn_metrics", bootstrap, redrawn, 1),
        ("evidence_of_a_round", one_round, both, 2),
    ):
        took, looped = (cpu(work, options.repeats) for work in (ours, loop))
        looped *= splits * TABLES / options.looped
        tell(what=name, tables=TABLES, cpu_s=round(took, 3), loop_s=round(looped, 2), ratio=round(took / looped, 4))


def cpu(work: Callable[[], object], repeats: int) -> float:
    """Median CPU seconds of this process, after one run that does not count."""
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
