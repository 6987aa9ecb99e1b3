"""Is a round that was chosen on the images it is compared on called better where no round is? Planted classifiers.

Run: python -m benchmarks.calibration_chosen [--runs N] [--tables isic] [--seeds 5,10] [--rounds 3,5] [--gap G]
Every round of a trial is as accurate as the model before pruning, in which group 0 is right more often by G; a seed's
rounds answer 80 % of the images from the same draw. One JSON line for each table, number of seeds and of rounds, and
way of reading a trial: ``selected``, the round with the best FATE on all images; ``crossfitted``, each image answered
by the round that is chosen without it, as scp-ray compare does; ``last``, one that nobody chose. ``better`` and
``worse``: the share of runs in which F1 or excess Eodd is called so (Holm over both). ``difference``: of excess Eodd,
which is truly 0; ``covered``: the share of its 95 % intervals that hold 0. ``floor_error``: the floor of crossfitted
answers less what stands for it, mean and largest over ten runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.planted_arms import METADATA, Arms, planted, read_table, without_seed_noise
from scp_ray.maths.crossfit import deal_folds
from scp_ray.maths.metrics import observed_metrics
from scp_ray.maths.paired import higher_is_better, holm, paired_differences, verdict
from scp_ray.maths.uncertainty import noise_floor
from scp_ray.report.voices import voice_of

WAYS = ("selected", "crossfitted", "last")
JUDGED = ("f1", "excess_eodd")
STOP = {"th_acc": 0.03, "th_fair": 0.0, "gap": "eodd", "enforce": False}


def main() -> None:
    """A line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--tables", default="isic,fitzpatrick")
    parser.add_argument("--seeds", default="5,10")
    parser.add_argument("--rounds", default="3,5")
    parser.add_argument("--gap", type=float, default=0.1)
    parser.add_argument("--permutations", type=int, default=30)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--metadata", default=METADATA)
    options = parser.parse_args()
    for table in (read_table(name, options.metadata) for name in options.tables.split(",")):
        arms = without_seed_noise(planted(table, better_by=0, gap=options.gap, base_gap=options.gap))
        for seeds in map(int, options.seeds.split(",")):
            for rounds in map(int, options.rounds.split(",")):
                for line in measured(arms, seeds, rounds, options):
                    print(json.dumps(line), flush=True)


def measured(arms: Arms, seeds: int, rounds: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """By way of reading what ``runs`` simulations say."""
    rng = np.random.default_rng([7, seeds, rounds, arms.table.classes])
    told: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    errors: list[float] = []
    for run in range(options.runs):
        said = arms.draw_rounds(seeds, rounds + 1, rng)
        floors = np.array([[_floor(arms, each, options.permutations, rng) for each in seed] for seed in said])
        read = _read(arms, said, floors)
        for way, (answers, means) in read.items():
            told[way].append(_judged(arms, answers, said[:, 0], (means, floors[:, 0]), options.draws, run))
        if run < 10:
            answers, means = read["crossfitted"]
            errors.append(_floor(arms, answers[0], 1000, rng) - float(means[0]))
    for way, rows in told.items():
        better, worse, difference, covered = np.mean(rows, axis=0)
        yield {"what": "calibration_chosen", "table": arms.table.name, "gap": options.gap, "seeds": seeds,
               "rounds": rounds, "way": way, "runs": options.runs, "better": round(float(better), 4),
               "worse": round(float(worse), 4), "difference": round(float(difference), 5),
               "covered": round(float(covered), 4)}  # fmt: skip
    yield {"what": "calibration_chosen_floor", "table": arms.table.name, "seeds": seeds, "rounds": rounds,
           "floor_error": round(float(np.mean(errors)), 5), "largest": round(float(np.max(np.abs(errors))), 5),
           "floor": round(float(floors.mean()), 4)}  # fmt: skip


def _read(arms: Arms, said: Any, floors: Any) -> dict[str, tuple[Any, Any]]:
    """By way each seed's answers (S, N) and the means of their floors (S,)."""
    table, own, images = arms.table, range(len(said)), range(said.shape[2])
    config = {"select": "best_val_fate", "stop": STOP}
    fold = deal_folds(table.label, table.group, table.unit)
    share = np.bincount(fold) / len(fold)
    apart = [voice_of("", each, table.label, table.group, fold, config, table.classes).rounds for each in said]
    whole = [_best(arms, each) for each in said]
    return {
        "selected": (said[own, whole], floors[own, whole]),
        "crossfitted": (
            np.stack([said[seed][np.array(apart[seed])[fold], images] for seed in own]),
            np.array([share @ floors[seed][list(apart[seed])] for seed in own]),
        ),
        "last": (said[:, -1], floors[:, -1]),
    }


def _best(arms: Arms, said: Any) -> int:
    """The round with the highest FATE on all images; the earliest on a tie."""
    found = observed_metrics(arms.table.label, arms.table.group, said, num_classes=arms.table.classes)
    return int(np.argmax(found["f1"] / found["f1"][0] - found["eodd"] / found["eodd"][0]))


def _floor(arms: Arms, said: Any, permutations: int, rng: np.random.Generator) -> float:
    table = arms.table
    seed = int(rng.integers(2**31))
    return noise_floor(
        table.label, said, table.group, num_classes=table.classes, unit=table.unit, permutations=permutations, seed=seed
    ).mean


def _judged(arms: Arms, first: Any, second: Any, floors: Any, draws: int, seed: int) -> list[float]:
    """Whether anything is called better, or worse; the difference of excess Eodd; whether its interval holds 0."""
    table = arms.table
    found = paired_differences(
        table.label, table.group, first, second, num_classes=table.classes, unit=table.unit,
        floors={"eodd": tuple(floors)}, draws=draws, seed=seed,
    )  # fmt: skip
    p = holm([found[name].p_value for name in JUDGED])
    words = [
        verdict(found[name].difference, each, higher_is_better=higher_is_better(name), seeds=len(first))
        for name, each in zip(JUDGED, p, strict=True)
    ]
    excess = found["excess_eodd"]
    return ["better" in words, "worse" in words, excess.difference, excess.low <= 0 <= excess.high]


if __name__ == "__main__":
    main()
