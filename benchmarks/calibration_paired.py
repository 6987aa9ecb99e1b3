"""Do intervals of paired differences cover, and is what the power promises found? Planted classifiers, seeded.

Run: python -m benchmarks.calibration_paired coverage [--quick] [--runs N] [--tables isic] [--seeds 3] [--formulas]
     python -m benchmarks.calibration_paired power [--quick] [--runs N] [--tables isic] [--seeds 5]
     python -m benchmarks.calibration_paired detectable [--seeds 3] [--noise 0.01]
One JSON line for each case and metric; --out FILE keeps them all.
coverage: share of 95 % intervals that hold the true expected difference, its standard error, the share of differences
with p < 0.05, and the mean estimated over the true standard deviation. --formulas: the same for other variances of the
mean, tried on the same draws. power: a difference of the size that ``detectable_difference`` names is planted, by
bisection on the accuracies, and looked for. detectable: what designs on the published tables can see, at that standard
deviation of a difference over trainings, and the processor time that it took to find out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from benchmarks.planted_arms import ACCURACY, METADATA, Arms, Table, planted, read_table
from scp_ray.maths.metrics import METRICS, observed_metrics
from scp_ray.maths.paired import difference_of, fate_of, paired_differences, satterthwaite
from scp_ray.maths.paired_bootstrap import Answers, redrawn_metrics
from scp_ray.maths.power import detectable_difference, with_arms, with_seeds
from scp_ray.maths.scenarios import SHARED
from scp_ray.maths.units import Units

CASES = {
    "none": {"better_by": 0.0, "gap": 0.0},
    "planted": {"better_by": 0.05, "gap": 0.1},
    # the first repairs half of the second's gap: the baselines that FATE is made for
    "repaired": {"better_by": 0.05, "gap": -0.15, "base_gap": 0.3},
}


def main() -> None:
    """Run what is asked for and print a line for each number."""
    options = _options()
    lines = []
    for line in {"coverage": coverage, "power": power, "detectable": detectable}[options.what](options):
        lines.append(line)
        print(json.dumps(line), flush=True)
    if options.out:
        options.out.write_text(json.dumps(lines, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("coverage", "power", "detectable"))
    parser.add_argument("--tables", default="isic,fitzpatrick")
    parser.add_argument("--seeds", help="coverage: 3,5,10; power: 5; detectable: 1,3,5,10,20")
    parser.add_argument("--cases", default="none,planted,repaired")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=100, help="redrawn tables of each interval")
    parser.add_argument("--permutations", type=int, default=30, help="for the floors of the excess gap; 0: none")
    parser.add_argument("--noise", type=float, default=0.02, help="standard deviation of accuracies over trainings")
    parser.add_argument("--seeds-agree", type=float, default=0.5)
    parser.add_argument("--formulas", action="store_true")
    parser.add_argument("--quick", action="store_true", help="60 runs")
    parser.add_argument("--metadata", type=Path, default=METADATA)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.runs = 60 if options.quick else options.runs
    usual = {"coverage": "3,5,10", "power": "5", "detectable": "1,3,5,10,20"}[options.what]
    options.seeds = [int(x) for x in (options.seeds or usual).split(",")]
    return options


# -- coverage ------------------------------------------------------------------------------------------------------


def coverage(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lines of every table, case, number of seeds and metric; fewer seeds are the first of the most."""
    for table in (read_table(name, options.metadata) for name in options.tables.split(",")):
        for case in options.cases.split(","):
            arms = replace(planted(table, **CASES[case]), seed_noise=options.noise, seeds_agree=options.seeds_agree)
            rng = np.random.default_rng([1, len(case), table.classes])
            rows: dict[tuple[int, str, str], list[Any]] = {}
            for _ in range(options.runs):
                pairs, units, dividable = _drawn(arms, max(options.seeds), rng, options)
                for seeds in options.seeds:
                    for metric, (values, moved) in pairs.items():
                        if metric == "fate_eodd" and not dividable[:seeds].all():
                            continue
                        for way, row in _told(metric, values[:, :seeds], moved[:, :seeds], units, options).items():
                            rows.setdefault((seeds, metric, way), []).append(row)
            for (seeds, metric, way), found in rows.items():
                yield {"what": "coverage", "table": table.name, "case": case, "seeds": seeds, "metric": metric,
                       "way": way, "noise": options.noise, "seeds_agree": options.seeds_agree, "runs": len(found),
                       **_summary(*np.array(found).T)}  # fmt: skip


def _drawn(arms: Arms, seeds: int, rng: np.random.Generator, options: argparse.Namespace) -> tuple[Any, Units, Any]:
    """Newly drawn predictions: by metric the arms' values (2, S) and redrawn differences (R, S).

    And by seed whether the baseline's Eodd lies above its floor, without which FATE has no interval.
    """
    table = arms.table
    predictions = np.concatenate(arms.draw(seeds, rng))
    seen = observed_metrics(table.label, table.group, predictions, num_classes=table.classes)
    units = Units(table.label, table.group, table.unit, num_classes=table.classes)
    drawn = redrawn_metrics(table.label, predictions, units, num_classes=table.classes, draws=options.draws, rng=rng)
    # the second arm is FATE's baseline of both, as vanilla is in the tables
    values = {name: seen[name].reshape(2, seeds)[[0, 1, 1, 1]] for name in METRICS}
    moved = {name: drawn[name].reshape(-1, 2, seeds)[:, [0, 1, 1, 1]] for name in METRICS}
    pairs = {name: (values[name][:2], moved[name][:, 0] - moved[name][:, 1]) for name in ("f1", "eodd")}
    pairs["fate_eodd"] = fate_of(values, moved)
    dividable = np.ones(seeds, dtype=bool)
    if options.permutations:
        fair = _fair(table, units, predictions, options.permutations, rng)
        pairs["excess_eodd"] = (values["eodd"][:2] - fair.mean(0), pairs["eodd"][1])
        dividable = values["eodd"][1] > np.quantile(fair[:, 1], 0.975, axis=0)
    return pairs, units, dividable


def _fair(table: Table, units: Units, predictions: Any, permutations: int, rng: np.random.Generator) -> Any:
    """(R, 2, S) Eodd of each arm and seed with units permuted in their class."""
    answers = Answers(table.label, predictions, units, num_classes=table.classes)
    shuffled = np.argsort(units.cell // 2 + rng.random((permutations, len(units.cell))), axis=1)  # inside classes
    group = (units.cell % 2)[shuffled]
    weight = np.stack([group == 0, group == 1], axis=1).astype(float)
    return answers.metrics(units.scaled(weight))["eodd"].reshape(permutations, 2, -1)


def _told(metric: str, values: Any, moved: Any, units: Units, options: argparse.Namespace) -> dict[str, Any]:
    """(difference, standard error, half the interval) as told, and by the other ways that were tried."""
    told = difference_of(metric, values, moved, units=units)
    found = {"told": (told.difference, told.standard_error, (told.high - told.low) / 2)}
    seeds = told.seeds
    if not options.formulas or seeds == 1:
        return found
    covariance = np.cov(moved, rowvar=False)
    between = (values[0] - values[1]).var(ddof=1) / seeds
    common = max(0.0, (covariance.sum() - covariance.trace()) / seeds / (seeds - 1))
    for way, images in {"seeds alone": 0.0, "whole bootstrap": covariance.mean(), "common, one t": common}.items():
        degrees = satterthwaite([between, images], [seeds - 1, units.degrees])
        error = math.sqrt(between + images)
        found[way] = (told.difference, error, student.ppf(0.975, degrees) * error)
    return found


def _summary(difference: Any, error: Any, half: Any) -> dict[str, float]:
    """Of arrays (runs,). The truth is the mean over the runs: its own error is that of one of them / sqrt(runs)."""
    truth = difference.mean()
    covered = float((np.abs(difference - truth) <= half).mean())
    return {
        "truth": round(float(truth), 5),
        "coverage": round(covered, 4),
        "coverage_error": round(math.sqrt(covered * (1 - covered) / len(half)), 4),
        "rejected": round(float((np.abs(difference) > half).mean()), 4),
        "width": round(float(2 * half.mean()), 5),
        "error_ratio": round(float(np.sqrt((error**2).mean()) / difference.std(ddof=1)), 3),
    }


# -- power ---------------------------------------------------------------------------------------------------------


def power(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A line for each table, number of seeds and metric: how often the promised difference is found."""
    for table in (read_table(name, options.metadata) for name in options.tables.split(",")):
        fair = planted(table, better_by=0.0, gap=0.0, uneven=0.0)
        fair = replace(fair, seed_noise=options.noise, seeds_agree=math.sqrt(SHARED))  # as the power assumes
        rng = np.random.default_rng([2, table.classes])
        accuracy = float(fair.right.mean())
        for seeds in options.seeds:
            for metric in ("f1", "eodd"):
                arms = fair
                for _ in range(2):  # what trainings add, and how far arms agree, is taken where the difference is
                    noise, agreement = _seed_sd(arms, rng), _agreement(arms, rng)
                    promised = detectable_difference(
                        table.label, table.group, num_classes=table.classes, seeds=seeds, unit=table.unit,
                        accuracy=accuracy, agreement=agreement, seed_sd=noise[metric],
                    )  # fmt: skip
                    wanted = promised.middle[metric]
                    arms = _with_difference(fair, metric, wanted, rng)
                level = promised.design.level / promised.comparisons
                found = 0
                for run in range(options.runs):
                    first, second = arms.draw(seeds, rng)
                    told = paired_differences(
                        table.label, table.group, first, second, num_classes=table.classes, unit=table.unit,
                        draws=options.draws, seed=run,
                    )[metric]  # fmt: skip
                    found += told.p_value < level
                share = found / options.runs
                yield {"what": "power", "table": table.name, "seeds": seeds, "metric": metric, "runs": options.runs,
                       "promised": promised.design.power, "difference": round(wanted, 4), "found": round(share, 4),
                       "found_error": round(math.sqrt(share * (1 - share) / options.runs), 4),
                       "agreement": round(agreement, 3), "seed_sd": round(noise[metric], 4)}  # fmt: skip


def detectable(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A line for each table, number of arms and number of seeds."""
    for table in (read_table(name, options.metadata) for name in options.tables.split(",")):
        started = time.process_time()
        found = detectable_difference(
            table.label, table.group, num_classes=table.classes, seeds=options.seeds[0], unit=table.unit,
            accuracy=ACCURACY[table.name], seed_sd=options.noise,
        )  # fmt: skip
        spent = round(time.process_time() - started, 2)
        for arms in (1, 5):
            for seeds in options.seeds:
                told = with_seeds(with_arms(found, arms), seeds)
                ranges = {name: [round(x, 4) for x in getattr(told, name)] for name in ("f1", "eodd", "fate")}
                yield {"what": "detectable", "table": table.name, "arms": arms, "seeds": seeds, **ranges,
                       "floor": round(told.middle_floor, 4), "seed_sd": options.noise, "cpu_s": spent}  # fmt: skip


def _seed_sd(arms: Arms, rng: np.random.Generator, count: int = 1500) -> dict[str, float]:
    """Standard deviation of the expected difference over trainings: what pairs have beyond those trained alike."""
    noisy, still = (_differences(x, count, rng) for x in (arms, replace(arms, seed_noise=0.0)))
    return {name: math.sqrt(max(0.0, noisy[name].var() - still[name].var())) for name in METRICS}


def _agreement(arms: Arms, rng: np.random.Generator) -> float:
    first, second = arms.draw(20, rng)
    return float((first == second).mean())


def _differences(arms: Arms, count: int, rng: np.random.Generator) -> dict[str, Any]:
    """(count,) differences of one training each."""
    table = arms.table
    both = np.concatenate(list(zip(*(arms.draw(1, rng) for _ in range(count)), strict=True))).reshape(2 * count, -1)
    seen = observed_metrics(table.label, table.group, both, num_classes=table.classes)
    return {name: seen[name][:count] - seen[name][count:] for name in METRICS}


def _with_difference(fair: Arms, metric: str, wanted: float, rng: np.random.Generator) -> Arms:
    """The first arm better (F1) or less fair (Eodd) by so much, in expectation."""
    make: Callable[[float], Arms] = {
        "f1": lambda size: _shifted(fair, size * np.array([1.0, 1.0])),
        "eodd": lambda size: _shifted(fair, size * np.array([1.0, -1.0])),
    }[metric]
    low, high = 0.0, 0.4
    for _ in range(9):
        middle = (low + high) / 2
        seen = float(_differences(make(middle), 300, rng)[metric].mean())
        low, high = (middle, high) if seen < wanted else (low, middle)
    # the last step by a line through what larger samples show there
    sizes = [middle * 0.95, middle * 1.05]
    seen_at = [float(_differences(make(size), 1500, rng)[metric].mean()) for size in sizes]
    slope = (seen_at[1] - seen_at[0]) / (sizes[1] - sizes[0])
    return make(sizes[0] + (wanted - seen_at[0]) / slope)


def _shifted(arms: Arms, by: Any) -> Arms:
    return replace(arms, right=np.stack([np.clip(arms.right[0] + by, 0.005, 0.995), arms.right[1]]))


if __name__ == "__main__":
    main()
