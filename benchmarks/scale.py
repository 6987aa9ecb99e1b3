"""A simulation of 10,000 trials on 512 GPUs, from what this machine measures of everything that all trials share.

Run: python -m benchmarks.scale [--trials N] [--gpus N] [--rounds N] [--round-minutes M] [--base-minutes M] [--seed S]
Measured: planning, the queue, Tune's and our own work on the driver for a trial and for a result, the tracker's work
for a run and for a round, a commit to the ledger. Simulated, event by event: base models first, workers that start
`--pending` at a time, a driver and a tracker that each do one thing after another. Not simulated: Ray's own GCS, and a
network file system, which is asked for a rate here.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from dataclasses import asdict, dataclass

from benchmarks.scale_costs import Costs, measured

FILES_PER_ROUND = 4  # state, predictions, channels, rounds; a model where it is the best so far


@dataclass(frozen=True)
class Outcome:
    """Of a simulated sweep."""

    hours: float
    over_ideal: float  # its length over that of GPUs that wait for nothing but base models
    gpu_idle: float  # share of GPU time between the first trial and the last in which a GPU waits for the driver
    ramp_s: float  # from the base models' end until the last worker is there
    driver_busy: float  # share of the time
    tracker_busy: float
    tracker_behind_s: float  # how long after the last trial the tracker is still at work
    commits_s: float  # rounds committed per second, in the fullest minute


def simulate(options: argparse.Namespace, costs: Costs) -> Outcome:
    """Trials of equally many rounds; a round takes `round_minutes` give or take a fifth, drawn by the seed."""
    stream = random.Random(options.seed)

    def round_s() -> float:
        return float(60 * options.round_minutes * stream.lognormvariate(-0.02, 0.2))

    driver_free = tracker_free = driver_work = tracker_work = waited = ideal = 0.0
    ready_at, last_start = 0.0, 0.0
    commits: dict[int, int] = {}
    starting: list[float] = []  # when the workers that are on their way will be there
    has_worker: set[int] = set()
    idle: list[int] = []  # GPUs for which nothing is ready
    bases, training, left = options.bases, options.bases, options.trials
    # when, which GPU, and how many rounds are left of its job: None where it has none, -1 of a base model
    events: list[tuple[float, int, int | None]] = [(costs.plan_s * left, gpu, None) for gpu in range(options.gpus)]

    def driver_does(work_s: float, now: float) -> float:
        nonlocal driver_free, driver_work, waited
        driver_free = max(now, driver_free) + work_s
        driver_work += work_s
        waited += driver_free - now
        return driver_free

    while events:
        now, gpu, rounds = heapq.heappop(events)
        if rounds is not None:  # a result: the driver takes it, then the GPU goes on
            now = driver_does(costs.result_s, now)
            first = rounds in (-1, options.rounds - 1)
            work_s = costs.track_round_s + (costs.track_trial_s if first else 0)
            tracker_free = max(now, tracker_free) + work_s
            tracker_work += work_s
            commits[int(now // 60)] = commits.get(int(now // 60), 0) + 1
        if rounds == -1:
            training -= 1
            if not training:
                ready_at = now
                for waiting in idle:
                    heapq.heappush(events, (now, waiting, None))
        if rounds is not None and rounds > 0:
            length, rest = round_s(), rounds - 1
            ideal += length
        elif bases:
            bases -= 1
            length, rest = 60 * options.base_minutes, -1
        elif training:
            idle.append(gpu)
            continue
        elif left:
            left -= 1
            length, rest = round_s(), options.rounds - 1
            ideal += length
        else:
            continue
        if rounds is None or rounds <= 0:  # a new job
            now = driver_does(costs.trial_s, now)
            if gpu not in has_worker:
                has_worker.add(gpu)
                while len(starting) >= options.pending:
                    now = max(now, heapq.heappop(starting))
                now += costs.worker_s
                heapq.heappush(starting, now)
                last_start = max(last_start, now)
        heapq.heappush(events, (now + length, gpu, rest))
    last = driver_free
    shortest = ready_at + ideal / options.gpus
    return Outcome(
        hours=last / 3600,
        over_ideal=last / shortest,
        gpu_idle=waited / (options.gpus * (last - ready_at)),
        ramp_s=last_start - ready_at,
        driver_busy=driver_work / last,
        tracker_busy=tracker_work / last,
        tracker_behind_s=max(0.0, tracker_free - last),
        commits_s=max(commits.values()) / 60,
    )


def limits(options: argparse.Namespace, costs: Costs) -> dict[str, dict[str, float]]:
    """For each thing that all trials share: trials per second at which it is full, and how short a round that is."""
    seconds = {
        "driver": costs.trial_s + options.rounds * costs.result_s,
        "tracker": costs.track_trial_s + options.rounds * costs.track_round_s,
        "one disk": options.rounds * costs.commit_s,
    }
    return {
        name: {"trials_s": 1 / each, "round_s": options.gpus * each / options.rounds} for name, each in seconds.items()
    }


def main() -> None:
    """Measure, simulate, print a JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    whole = {"trials": 10_000, "gpus": 512, "rounds": 5, "bases": 5, "seeds": 5, "pending": 200, "seed": 0}
    for name, default in whole.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, minutes in {"round-minutes": 10.0, "base-minutes": 60.0}.items():
        parser.add_argument(f"--{name}", type=float, default=minutes)
    parser.add_argument("--sample", type=int, default=1000, help="how many trials the measurements use")
    options = parser.parse_args()
    costs = measured(options.sample, options.trials)
    print(json.dumps({"what": "measured"} | asdict(costs)))
    print(json.dumps({"what": "limits"} | limits(options, costs)))
    for pending in (options.pending, 1):
        options.pending = pending
        print(json.dumps({"what": "simulated", "pending": pending} | asdict(simulate(options, costs))))


if __name__ == "__main__":
    main()
