"""What evidence adds to the end of a round: CPU seconds of one core, for tables of several sizes.

python -m benchmarks.evidence_rounds      # the published test tables stand for validation ones of their size
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from benchmarks.measure import arguments, tell
from scp_ray.ledger.evidence import evidence_table

TABLES = {  # images, classes
    "a miniature": (64, 4),
    "isic2019-mini": (246, 8),
    "fitzpatrick17k": (1657, 114),
    "isic2019": (4971, 8),
}


def main() -> None:
    """Made-up predictions, half of them right."""
    options = arguments(main.__doc__ or "", repeats=5)
    for name, (images, classes) in TABLES.items():
        random = np.random.default_rng(0)
        label, group = random.integers(classes, size=images), random.integers(2, size=images)
        prediction = np.where(random.random(images) < 0.5, label, random.integers(classes, size=images))
        unit = [str(image) for image in range(images)]
        times = []
        for _ in range(options.repeats + 1):
            started = time.process_time()
            evidence_table(1, "val", label, prediction, group, unit, num_classes=classes, seed=0)
            times.append(time.process_time() - started)
        tell(table=name, images=images, classes=classes, evidence_cpu_s=round(statistics.median(times[1:]), 3))


if __name__ == "__main__":
    main()
