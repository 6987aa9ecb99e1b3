"""Do noise floors and intervals keep what they promise? Planted classifiers on the published test tables.

    python -m benchmarks.calibration                     # 2,000 simulations a row: about a quarter of an hour
    python -m benchmarks.calibration --simulations 100 --only coverage --tables isic
    python -m benchmarks.calibration --figure docs/evidence-calibration.png --out calibration.json
    python -m benchmarks.calibration --read calibration.json --figure docs/evidence-calibration.png

Three questions, a JSON line each time. ``floor``: the mean of the permutation null over 60 fair classifiers that are
right in 54 %.
``fair``: how often a fair classifier is called unfair at p <= 0.05, errors independent or common to a lesion.
``coverage``: how often the 95 % intervals of each metric hold its expected value on this table, at planted gaps.
Answers are drawn without images: right with the planted probability, else a label drawn from the table's labels.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted_arms import ACCURACY, Table, read_table
from scp_ray.maths.metrics import observed_metrics
from scp_ray.maths.uncertainty import EVIDENCE, evidence, noise_floor

GAPS = (0.0, 0.1, 0.4)  # true positive rate of group 0 minus that of group 1, in every class
TRUTHS = 4000  # simulations that an expected value is the mean of
UNIT_AGREES = 0.8  # share of a lesion's images that are answered from one draw


def main() -> None:
    """Ask what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=200, help="permutations, and bootstrap draws, of each")
    parser.add_argument("--only", choices=("floor", "fair", "coverage"))
    parser.add_argument("--tables", nargs="+", choices=tuple(ACCURACY), default=list(ACCURACY), help="of the coverage")
    parser.add_argument("--read", nargs="+", type=Path, default=[], help="rows of earlier runs, instead of new ones")
    parser.add_argument("--out", type=Path, help="a JSON file of all rows")
    parser.add_argument("--figure", type=Path, help="a PNG of the coverage")
    options = parser.parse_args()
    rows = [row for file in options.read for row in json.loads(file.read_text())]
    for row in () if options.read else asked(options):
        rows.append(row)
        print(json.dumps(row), flush=True)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    if options.figure:
        draw([row for row in rows if row["question"] == "coverage"], options.figure)


def asked(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of each question."""
    questions: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "floor": floor,
        "fair": lambda: fair(options.simulations, options.draws),
        "coverage": lambda: coverage(options.tables, options.simulations, options.draws),
    }
    for name, ask in questions.items():
        if options.only in (None, name):
            yield from ({"question": name} | row for row in ask())


def answers(table: Table, gap: float, correlated: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """(N,) predictions of a classifier whose groups' true positive rates lie ``gap`` apart in every class."""
    count = len(table.label)
    rate = np.clip(ACCURACY[table.name] + gap / 2 * np.where(table.group == 0, 1, -1), 0.02, 0.98)
    luck, wrong = rng.random(count), rng.integers(0, count, count)
    if correlated:  # images of a lesion share their draws
        common = rng.random(count) < UNIT_AGREES
        units = int(table.unit.max()) + 1
        luck = np.where(common, rng.random(units)[table.unit], luck)
        wrong = np.where(common, rng.integers(0, count, units)[table.unit], wrong)
    return np.where(luck < rate, table.label, table.label[wrong])


def floor() -> Iterator[dict[str, Any]]:
    """The null's mean on the Fitzpatrick-17k table, over 60 classifiers."""
    table, rng = read_table("fitzpatrick"), np.random.default_rng(0)
    means = []
    for _ in range(60):
        said = answers(table, 0.0, False, rng)
        means.append(noise_floor(table.label, said, table.group, num_classes=table.classes, permutations=300).mean)
    yield {"table": table.name, "classifiers": 60, "permutations": 300, "mean": round(float(np.mean(means)), 4)}


def fair(simulations: int, draws: int) -> Iterator[dict[str, Any]]:
    """Fair classifiers that are called unfair, by what is permuted."""
    for name, correlated, by in (
        ("fitzpatrick", False, "image"),
        ("isic", False, "lesion"),
        ("isic", True, "lesion"),
        ("isic", True, "image"),
    ):
        table, rng = read_table(name), np.random.default_rng(1)
        unit = table.unit if by == "lesion" else None
        called = 0
        for index in range(simulations):
            said = answers(table, 0.0, correlated, rng)
            found = noise_floor(
                table.label, said, table.group, num_classes=table.classes, unit=unit, permutations=draws - 1, seed=index
            )
            called += found.p_value <= 0.05
        errors = "common to a lesion" if correlated else "independent"
        row = {"table": name, "errors": errors, "permuted": by, "simulations": simulations}
        yield row | share("called_unfair", called, simulations)


def coverage(tables: list[str], simulations: int, draws: int) -> Iterator[dict[str, Any]]:
    """Intervals that hold the expected value."""
    for name in tables:
        table = read_table(name)
        for gap in GAPS:
            for correlated in (False, True) if name == "isic" else (False,):
                yield from _coverage(table, gap, correlated, simulations, draws)


def _coverage(table: Table, gap: float, correlated: bool, simulations: int, draws: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(2)
    parts = []
    for _ in range(TRUTHS // 100):
        many = np.stack([answers(table, gap, correlated, rng) for _ in range(100)])
        parts.append(observed_metrics(table.label, table.group, many, num_classes=table.classes))
    spread = {name: np.concatenate([part[name] for part in parts]) for name in EVIDENCE}
    held, errors = dict.fromkeys(spread, 0), dict.fromkeys(spread, 0.0)
    for index in range(simulations):
        said = answers(table, gap, correlated, rng)
        found = evidence(
            table.label, said, table.group, num_classes=table.classes, unit=table.unit, permutations=100, draws=draws,
            seed=index,
        )  # fmt: skip
        for each in found:
            held[each.metric] += each.low <= spread[each.metric].mean() <= each.high
            errors[each.metric] += each.standard_error / simulations
    for metric, values in spread.items():
        row = {"table": table.name, "gap": gap, "lesions_agree": correlated, "metric": metric}
        row |= {"expected": round(float(values.mean()), 4), "simulations": simulations, "draws": draws}
        row |= share("coverage", held[metric], simulations)
        yield row | {"error_over_true": round(errors[metric] / float(values.std()), 3)}


def share(name: str, hits: int, of: int) -> dict[str, float]:
    """A proportion with its standard error."""
    found = hits / of
    return {name: round(found, 4), "se": round(math.sqrt(found * (1 - found) / of), 4)}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Coverage against the planted gap, F1 beside Eodd."""
    from matplotlib.figure import Figure

    series = (
        ("Fitzpatrick-17k", "fitzpatrick", False, "#0072B2", "o"),
        ("ISIC 2019", "isic", False, "#D55E00", "s"),
        ("ISIC 2019, lesions agree", "isic", True, "#009E73", "^"),
    )
    figure = Figure(figsize=(6.6, 3.0), dpi=200, layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(both, ("f1", "eodd"), strict=True):
        axes.axhspan(0.93, 0.98, color="0.93", linewidth=0)  # what is promised; above is conservative
        axes.axhline(0.95, color="0.5", linewidth=0.8, linestyle="--")
        for place, (label, table, agree, colour, marker) in enumerate(series):
            mine = [
                row for row in rows if (row["table"], row["lesions_agree"], row["metric"]) == (table, agree, metric)
            ]
            axes.errorbar(
                [GAPS.index(row["gap"]) + 0.16 * (place - 1) for row in mine],
                [row["coverage"] for row in mine], [2 * row["se"] for row in mine],
                color=colour, marker=marker, markersize=4, linestyle="", linewidth=1, capsize=2, label=label,
            )  # fmt: skip
        axes.set_xticks(range(len(GAPS)), [f"{gap:g}" for gap in GAPS])
        axes.set(xlabel="planted gap in true positive rate", xlim=(-0.5, len(GAPS) - 0.5), ylim=(0.9, 1.0))
        axes.set_title({"f1": "F1", "eodd": "Eodd"}[metric], fontsize=10)
    both[0].set_ylabel("coverage of 95 % intervals")
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
