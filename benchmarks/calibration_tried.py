"""Coverage of other intervals than scp_ray's, on the same planted classifiers: what each part of its rule is good for.

    python -m benchmarks.calibration_tried --simulations 400

Of Eodd: ``percentile`` of the redrawn gaps, and the observed gap -+ 1.96 standard errors of redrawn gaps (``folded``)
or of their differences with the observed signs (``signed``). Of F1: ``unscaled``, without what makes up for thin
classes. A JSON line each. ISIC's errors are common to a lesion.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from benchmarks.calibration import GAPS, TRUTHS, answers, share
from benchmarks.planted_arms import Table, read_table
from scp_ray.maths import gaps
from scp_ray.maths.kinds import Kinds
from scp_ray.maths.metrics import observed_metrics
from scp_ray.maths.rates import f1_mean
from scp_ray.maths.uncertainty import NORMAL
from scp_ray.maths.units import Units


def main() -> None:
    """Both tables, every gap."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--draws", type=int, default=200)
    options = parser.parse_args()
    for name in ("fitzpatrick", "isic"):
        for gap in GAPS:
            for way, held in tried(read_table(name), gap, options.simulations, options.draws).items():
                row = {"table": name, "gap": gap, "way": way, "simulations": options.simulations}
                print(json.dumps(row | share("coverage", held, options.simulations)), flush=True)


def tried(table: Table, gap: float, simulations: int, draws: int) -> dict[str, int]:
    """How many of the simulations' intervals hold the expected value, by the way they were made."""
    rng, agree = np.random.default_rng(3), table.name == "isic"
    sums, units = {"f1": 0.0, "eodd": 0.0}, Units(table.label, table.group, table.unit, num_classes=table.classes)
    for _ in range(TRUTHS // 100):
        many = np.stack([answers(table, gap, agree, rng) for _ in range(100)])
        seen = observed_metrics(table.label, table.group, many, num_classes=table.classes)
        sums = {name: total + seen[name].sum() / TRUTHS for name, total in sums.items()}
    held = dict.fromkeys(("percentile", "folded", "signed", "unscaled"), 0)
    for _ in range(simulations):
        kinds = Kinds(table.label, answers(table, gap, agree, rng), units, num_classes=table.classes)
        seen_terms = gaps.terms("eodd", kinds.counts(kinds.count[None].astype(float)), table.classes)[0]
        seen_f1 = f1_mean(kinds.counts(kinds.count[None].astype(float)))[0]
        counts = kinds.counts(kinds.redrawn(draws, rng))
        terms = gaps.terms("eodd", counts, table.classes)
        folded, signed = np.abs(terms).sum(-1), (terms * np.where(seen_terms < 0, -1, 1)).sum(-1)
        low, high = np.quantile(folded, [0.025, 0.975])
        observed, wanted = np.abs(seen_terms).sum(), sums["eodd"]
        held["percentile"] += int(low <= wanted <= high)
        held["folded"] += int(abs(observed - wanted) <= NORMAL * folded.std(ddof=1))
        held["signed"] += int(abs(observed - wanted) <= NORMAL * signed.std(ddof=1))
        held["unscaled"] += int(abs(seen_f1 - sums["f1"]) <= NORMAL * f1_mean(counts).std(ddof=1))
    return held


if __name__ == "__main__":
    main()
