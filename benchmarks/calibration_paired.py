"""Do intervals of paired differences cover, and is what the power promises found? Planted classifiers, seeded.

Run: python -m benchmarks.calibration_paired coverage [--quick] [--runs N] [--tables isic] [--seeds 3] [--formulas]
     python -m benchmarks.calibration_paired power [--quick] [--runs N] [--tables isic] [--seeds 5]
One JSON line for each case and metric; --out FILE keeps them all.
coverage: share of 95 % intervals that hold the true expected difference, its standard error, the share of differences
with p < 0.05, and the mean estimated over the true standard deviation. --formulas: the same for other variances of the
mean, tried on the same draws. power: a difference of the size that ``detectable_difference`` names is planted, by
bisection on the accuracies, and looked for.
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

from benchmarks.planted_arms import METADATA, Arms, Table, planted, read_table
from scp_ray.maths.paired import paired_differences
from scp_ray.maths.paired_bootstrap import METRICS, Answers, Units, observed_metrics, redrawn_metrics
from scp_ray.maths.power import detectable_difference

CASES = {"none": {"better_by": 0.0, "gap": 0.0}, "planted": {"better_by": 0.05, "gap": 0.1}}
TOLD = ("f1", "eodd", "excess_eodd", "fate_eodd")


def main() -> None:
    """Run what is asked for and print a line for each number."""
    options = _options()
    lines = []
    for line in (coverage if options.what == "coverage" else power)(options):
        lines.append(line)
        print(json.dumps(line), flush=True)
    if options.out:
        options.out.write_text(json.dumps(lines, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("coverage", "power"))
    parser.add_argument("--tables", default="isic,fitzpatrick")
    parser.add_argument("--seeds", help="coverage: 3,5,10; power: 5")
    parser.add_argument("--cases", default="none,planted")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200, help="redrawn tables of each interval")
    parser.add_argument("--permutations", type=int, default=50, help="for the floors of the excess gap; 0: none")
    parser.add_argument("--noise", type=float, default=0.02, help="standard deviation of accuracies over trainings")
    parser.add_argument("--seeds-agree", type=float, default=0.5)
    parser.add_argument("--formulas", action="store_true")
    parser.add_argument("--quick", action="store_true", help="60 runs")
    parser.add_argument("--metadata", type=Path, default=METADATA)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.runs = 60 if options.quick else options.runs
    options.seeds = [int(x) for x in (options.seeds or ("3,5,10" if options.what == "coverage" else "5")).split(",")]
    return options


# -- coverage ------------------------------------------------------------------------------------------------------


def coverage(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lines of every table, case and number of seeds."""
    for table in (read_table(name, options.metadata) for name in options.tables.split(",")):
        for case in options.cases.split(","):
            arms = replace(planted(table, **CASES[case]), seed_noise=options.noise, seeds_agree=options.seeds_agree)
            for seeds in options.seeds:
                about = {"what": "coverage", "table": table.name, "case": case, "seeds": seeds, "runs": options.runs}
                started = time.perf_counter()
                rng = np.random.default_rng([1, seeds, len(case), table.classes])
                found = (_formulas if options.formulas else _covered)(arms, seeds, rng, options)
                spent = round(time.perf_counter() - started, 1)
                for name, values in found.items():
                    yield {**about, "seeds_agree": options.seeds_agree, "noise": options.noise, "metric": name,
                           **_summary(*values), "seconds": spent}  # fmt: skip


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


def _covered(arms: Arms, seeds: int, rng: np.random.Generator, options: argparse.Namespace) -> dict[str, list[Any]]:
    table, rows = arms.table, []
    for run in range(options.runs):
        first, second = arms.draw(seeds, rng)
        given: dict[str, Any] = {"baseline_first": second, "baseline_second": second}
        if options.permutations:
            given["floors"] = {"eodd": _floors(table, np.concatenate([first, second]), options.permutations, rng)}
        found = paired_differences(
            table.label, table.group, first, second, num_classes=table.classes, unit=table.unit, draws=options.draws,
            seed=run, **given,
        )  # fmt: skip
        rows.append([(x.difference, x.standard_error, (x.high - x.low) / 2) for x in found.values()])
    return {name: list(np.array(rows)[:, i].T) for i, name in enumerate(found) if name in TOLD}


def _floors(table: Table, predictions: Any, permutations: int, rng: np.random.Generator) -> Any:
    """(2, S) mean Eodd of each arm and seed with units permuted in their class."""
    units = Units(table.label, table.group, table.unit, num_classes=table.classes)
    answers = Answers(table.label, predictions, units, num_classes=table.classes)
    group = units.cell % 2
    order = np.argsort(units.cell // 2 + rng.random((permutations, len(group))), axis=1)  # shuffled inside classes
    moved = group[order]
    weight = np.stack([moved == 0, moved == 1], axis=1).astype(float)
    return answers.metrics(units._scaled(weight))["eodd"].mean(0).reshape(2, -1)


def _formulas(arms: Arms, seeds: int, rng: np.random.Generator, options: argparse.Namespace) -> dict[str, list[Any]]:
    """Other variances of the mean, on the same draws: (difference, error, half width) of each."""
    table = arms.table
    units = Units(table.label, table.group, table.unit, num_classes=table.classes)
    rows: dict[str, list[Any]] = {}
    for _ in range(options.runs):
        both = np.concatenate(arms.draw(seeds, rng))
        seen = observed_metrics(table.label, table.group, both, num_classes=table.classes)
        drawn = redrawn_metrics(table.label, both, units, num_classes=table.classes, draws=options.draws, rng=rng)
        for metric in ("f1", "eodd"):
            by_seed = seen[metric][:seeds] - seen[metric][seeds:]
            covariance = np.cov(drawn[metric][:, :seeds] - drawn[metric][:, seeds:], rowvar=False)
            between, whole = by_seed.var(ddof=1) / seeds, covariance.mean()
            own = covariance.trace() / seeds**2
            common = max(0.0, (covariance.sum() - covariance.trace()) / seeds / (seeds - 1))
            ways: dict[str, tuple[float, float, float]] = {
                "seeds alone": (between, 0.0, seeds - 1),
                "seeds + whole bootstrap": (between, whole, _degrees(between, whole, seeds, units)),
                "seeds + common": (between, common, _degrees(between, common, seeds, units)),
                "larger of seeds and own, + common": (
                    max(between, own), common, _degrees(max(between, own), common, seeds, units)),
            }  # fmt: skip
            for name, (one, two, degrees) in ways.items():
                error = math.sqrt(one + two)
                half = student.ppf(0.975, degrees) * error
                rows.setdefault(f"{metric}: {name}", []).append((by_seed.mean(), error, half))
            half = math.sqrt(between * student.ppf(0.975, seeds - 1) ** 2 + common * 1.96**2)
            rows.setdefault(f"{metric}: seeds + common, each its own t", []).append(
                (by_seed.mean(), math.sqrt(between + common), half)
            )
    return {name: list(np.array(values).T) for name, values in rows.items()}


def _degrees(one: float, two: float, seeds: int, units: Units) -> float:
    return (one + two) ** 2 / (one**2 / (seeds - 1) + two**2 / units.degrees)


# -- power ---------------------------------------------------------------------------------------------------------


def power(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A line for each table, number of seeds and metric: how often the promised difference is found."""
    for table in (read_table(name, options.metadata) for name in options.tables.split(",")):
        fair = replace(planted(table, better_by=0.0, gap=0.0, uneven=0.0), seed_noise=options.noise)
        rng = np.random.default_rng([2, table.classes])
        noise, agreement, accuracy = _seed_sd(fair, rng), _agreement(fair, rng), float(fair.right.mean())
        for seeds in options.seeds:
            for metric in ("f1", "eodd"):
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
