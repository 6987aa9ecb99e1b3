"""Search on a trade-off whose front is known: how much sooner than at random, and how many seeds a race saves.

Run: python -m benchmarks.search [--runs N] [--trials N] [--noise S] [--start N]
The product's own ask, tell and race, with two simulated workers and nothing trained. The problem is ZDT1 (Zitzler,
Deb, Thiele 2000) over a space like a real one: f1 = u, f2 = g (1 - sqrt(u / g)) with u the place of pr_c in its range
(log scale) and g >= 1 growing with the distance of learning rate, layer and method from the best ones; the front is
f2 = 1 - sqrt(f1), its hypervolume from (1.1, 1.1) 0.8767. Seeds add normal noise.

First line: configurations that tpe needs for the hypervolume that random has after all of its own, median over runs
(goal: at most 60 % of them). Second: runs of a race over runs of fixed replicates for the same configurations, and how
often both end with the same choice, the knee of the front (goal: at most 0.6).
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna

from scp_ray.config.search import SearchConfig
from scp_ray.seeds import derive_seed
from scp_ray.tune.campaign import Campaign, Run
from scp_ray.tune.racing import Measured
from scp_ray.tune.samplers import Settings, directions
from scp_ray.tune.study import Study

WORKERS = 2
REFERENCE = (1.1, 1.1)
SPACE = {
    "pr_c": {"float": [0.005, 0.2, "log"]},
    "fine_tune.lr": {"float": [1e-4, 1e-1, "log"]},
    "layer": {"choice": [-1, -2, -3]},
    "method": {"choice": ["vanilla", "fairprune", "mfd"]},
    "method[mfd].sigma": {"float": [0.25, 2.0, "log"]},
}
Point = tuple[float, float]


def truth(settings: Settings) -> Point:
    """Both costs, without noise."""
    share = math.log(settings["pr_c"] / 0.005) / math.log(0.2 / 0.005)
    far = abs(math.log10(settings["fine_tune.lr"]) + 2)  # best at 0.01
    far += {-1: 0.0, -2: 0.3, -3: 0.6}[settings["layer"]]
    far += {"vanilla": 0.6, "fairprune": 0.2, "mfd": abs(math.log(settings.get("method[mfd].sigma", 1.0)))}[
        settings["method"]
    ]
    g = 1 + far
    return share, g * (1 - math.sqrt(share / g))


def hypervolume(points: Sequence[Point]) -> float:
    """The area that two costs dominate, up to the reference."""
    area, lowest = 0.0, REFERENCE[1]
    for first, second in sorted(points):
        if first < REFERENCE[0] and second < lowest:
            area += (REFERENCE[0] - first) * (lowest - second)
            lowest = second
    return area


def knee(points: dict[int, Point]) -> int:
    """The front's point that is furthest below the line through its ends."""
    front = {
        at: p for at, p in points.items() if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points.values())
    }
    (x0, y0), (x1, y1) = min(front.values()), max(front.values())
    return max(front, key=lambda at: (x1 - x0) * (y0 - front[at][1]) - (y0 - y1) * (front[at][0] - x0))


def search(sampler: str, trials: int, seed: int, replicates: dict[str, Any], noise: float) -> tuple[Campaign, int]:
    """A whole search on two workers whose runs take different times; returns it and the number of runs."""
    block = SearchConfig.read(
        {
            "sampler": sampler,
            "trials": trials,
            "objectives": {"val_f1_diff": "min", "val_eodd": "min"},
            "space": SPACE,
            "replicates": replicates,
            "seed": seed,
        },
        "search",
        [],
    )
    assert block is not None
    study = Study(block, optuna.create_study(directions=directions(block)))
    campaign = Campaign(block, study, lambda settings: json.dumps(settings))
    clock, runs, busy = 0.0, 0, list[tuple[float, int, Run]]()
    while True:
        while len(busy) < WORKERS and (run := campaign.next()) is not None:
            runs += 1
            stream = np.random.default_rng(derive_seed(seed, "seconds", runs))
            heapq.heappush(busy, (clock + stream.uniform(0.5, 1.5), runs, run))
        if not busy:
            return campaign, runs
        clock, _, run = heapq.heappop(busy)
        campaign.done(run, _measured(run, seed, noise))


def _measured(run: Run, seed: int, noise: float) -> Measured:
    stream = np.random.default_rng(derive_seed(seed, "noise", str(run.configuration.settings), run.seed))
    first, second = np.array(truth(run.configuration.settings)) + noise * stream.standard_normal(2)
    return Measured((float(first), float(second)))


def sooner(trials: int, seed: int) -> int:
    """Configurations after which tpe has the hypervolume that random has after ``trials``; more than that: never."""
    goal = hypervolume(_truths("random", trials, seed))
    points = _truths("tpe", trials, seed)
    return next((count for count in range(1, trials + 1) if hypervolume(points[:count]) >= goal), trials + 1)


def _truths(sampler: str, trials: int, seed: int) -> list[Point]:
    campaign, _ = search(sampler, trials, seed, {"seeds": [0]}, 0.0)
    return [truth(each.settings) for each in campaign.configurations.values()]


def saved(sampler: str, trials: int, seed: int, noise: float, start: int) -> tuple[float, bool]:
    """Runs of a race over runs of fixed replicates, and whether both choose the same configuration."""
    seeds = [0, 1, 2, 3, 4]
    raced, few = search(sampler, trials, seed, {"seeds": seeds, "start": start, "race": True}, noise)
    fixed, many = search(sampler, trials, seed, {"seeds": seeds}, noise)
    same = _choice(raced) == _choice(fixed)
    return few / many, same


def _choice(campaign: Campaign) -> Settings:
    means: dict[int, Point] = {}
    for at, each in campaign.configurations.items():
        first, second = np.mean([seed.costs for seed in each.measured.values()], axis=0)
        means[at] = float(first), float(second)
    return campaign.configurations[knee(means)].settings


def main() -> None:
    """Both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"runs": 10, "trials": 60, "noise": 0.03, "start": 1}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    needed = [sooner(options.trials, seed) for seed in range(options.runs)]
    print(
        json.dumps({"trials": options.trials, "tpe_needs": needed, "tpe_median": statistics.median(needed)}), flush=True
    )
    races = [saved("random", options.trials, seed, options.noise, options.start) for seed in range(options.runs)]
    shares = [round(share, 3) for share, _ in races]
    told = {
        "noise": options.noise,
        "start": options.start,
        "shares": shares,
        "ratio": round(statistics.median(shares), 3),
    }
    print(json.dumps(told | {"same_choice": sum(same for _, same in races), "of": options.runs}))


if __name__ == "__main__":
    main()
