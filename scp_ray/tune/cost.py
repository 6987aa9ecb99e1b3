"""What a plan will take: device time, wall time and disk, from what each kind of work takes. Arithmetic alone.

Every number is a range: its ends are what the rates' ends give.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scp_ray.config import TrialConfig
from scp_ray.tune.space import Job

# On two CPU cores, from the command to the first job's first step 6 to 12 s (Ray, a worker's imports); beside what the
# rows' seconds tell, a job took 0.1 to 1.5 s (its learner, reading the base, handing it out) and a round 0.05 to 0.4 s
# (the ledger's tables and state). See docs/planning.md.
START_S, JOB_S, ROUND_S = (6.0, 12.0), (0.1, 1.5), (0.05, 0.4)


class Range(NamedTuple):
    """From ``low`` to ``high``."""

    low: float
    high: float

    def times(self, factor: float) -> Range:
        """Both ends; none of something unknown is nothing."""
        return Range(self.low * factor, self.high * factor) if factor else Range(0.0, 0.0)

    def plus(self, other: tuple[float, float]) -> Range:
        """End by end."""
        return Range(self.low + other[0], self.high + other[1])

    def widened(self, down: float, up: float) -> Range:
        """The low end times ``down``, the high one times ``up``."""
        return Range(self.low * down, self.high * up)


NOTHING = Range(0.0, 0.0)


def spanned(ranges: Iterable[Range]) -> Range:
    """The smallest range that holds them all."""
    every = list(ranges)
    return Range(min(each.low for each in every), max(each.high for each in every))


@dataclass(frozen=True)
class Rates:
    """Seconds of one configuration's work on one device."""

    train: Range  # an epoch of the base model's training
    fine_tune: Range  # an epoch after pruning
    score: Range  # once a round
    evaluate: Range  # validation and test, once a round and once for a base model
    finish: Range = NOTHING  # once after base training: the masks of FairPrune and OBD


@dataclass(frozen=True)
class Work:
    """A job as the scheduler sees it."""

    id: str
    seconds: Range
    requires: tuple[str, ...] = ()
    gpus: float = 0.0
    cpus: float = 1.0


class Slots(NamedTuple):
    """How many jobs run at a time: base models, which hold no scorers, and trials."""

    bases: int
    trials: int


@dataclass(frozen=True)
class Cost:
    """What a plan takes."""

    gpu_hours: Range
    cpu_hours: Range
    wall_s: Range


def job_seconds(config: TrialConfig, rates: Rates, *, rounds: int | None) -> Range:
    """Of a base model (``rounds`` is None) or of so many rounds of a trial."""
    if rounds is None:
        epochs = 0 if config.method.post_hoc else config.train.epochs
        return rates.train.times(epochs).plus(rates.finish).plus(rates.evaluate).plus(JOB_S).plus(ROUND_S)
    one = rates.fine_tune.times(config.fine_tune.epochs).plus(rates.score).plus(rates.evaluate).plus(ROUND_S)
    return one.times(rounds).plus(JOB_S)


def works_of(jobs: Sequence[Job], rates: Mapping[str, Rates], held: Mapping[bool, tuple[float, float]]) -> list[Work]:
    """The plan's jobs with their seconds.

    Args:
        jobs: base models before the trials that need them.
        rates: by job id.
        held: CPUs and GPUs of a base model (True) and of a trial with its scorers (False).
    """
    made = []
    for job in jobs:
        rounds = None if job.trial is None else max(0, job.config.rounds - job.rounds_done)
        cpus, gpus = held[job.trial is None]
        seconds = job_seconds(job.config, rates[job.id], rounds=rounds)
        if rounds and job.config.stop.enforce:  # it may stop after the first
            seconds = Range(job_seconds(job.config, rates[job.id], rounds=1).low, seconds.high)
        made.append(Work(job.id, seconds, job.requires, gpus, cpus))
    return made


def searched(bases: Sequence[Work], kinds: Sequence[Work], configurations: int, seeds: int) -> list[Work]:
    """The work of a search, whose configurations nobody knows yet.

    Args:
        bases: the base models that any of them needs.
        kinds: a trial of each configuration that was looked at; the others are taken to be like these in turn.
        configurations: how many the search tries.
        seeds: of each.
    """
    works = list(bases)
    for number in range(configurations if kinds else 0):
        kind = kinds[number % len(kinds)]
        named = [f"{number}/{seed}" for seed in range(seeds)]
        works += [Work(name, kind.seconds, kind.requires, kind.gpus, kind.cpus) for name in named]
    return works


def cost_of(least: Sequence[Work], most: Sequence[Work], slots: Slots) -> Cost:
    """The low ends of ``least`` and the high ends of ``most``, which of a plan without unknowns are the same."""
    hours = {
        kind: Range(
            sum(work.seconds.low * getattr(work, kind) for work in least) / 3600,
            sum(work.seconds.high * getattr(work, kind) for work in most) / 3600,
        )
        for kind in ("gpus", "cpus")
    }
    if not most:
        return Cost(hours["gpus"], hours["cpus"], Range(0, 0))
    low = makespan([(work.id, work.seconds.low, work.requires) for work in least], slots)
    high = makespan([(work.id, work.seconds.high, work.requires) for work in most], slots)
    return Cost(hours["gpus"], hours["cpus"], Range(low, high).plus(START_S))


def makespan(works: Sequence[tuple[str, float, tuple[str, ...]]], slots: Slots) -> float:
    """Seconds until all are done, handed out in their order, each as soon as a slot is free and what it needs is done.

    Works are (id, seconds, ids of what has to be done before); a work that another one needs counts against the bases'
    slots, the others against the trials'; a slot of the one kind is one of the other as far as both have so many.
    Infinite where a trial has no slot.
    """
    if min(slots) < 1 and works:
        return math.inf
    known = {name for name, _, _ in works}
    needed = {base for _, _, requires in works for base in requires}
    missing = {place: known.intersection(requires) for place, (_, _, requires) in enumerate(works)}
    waiting: dict[str, list[int]] = {name: [] for name in needed}
    for place, bases in missing.items():
        for base in bases:
            waiting[base].append(place)
    ready: dict[bool, list[int]] = {
        True: [],
        False: [],
    }  # base models or not -> places in the order, the earliest first
    for place, bases in missing.items():
        if not bases:
            ready[works[place][0] in needed].append(place)
    running: list[tuple[float, int]] = []
    trials, now = 0, 0.0
    while True:
        while place := _next(ready, room=max(slots) - len(running), trials=slots.trials - trials):
            name, seconds, _ = works[place - 1]
            heapq.heappush(running, (now + seconds, place - 1))
            trials += name not in needed
        if not running:
            return now  # what is left needs what is not there
        now, at = heapq.heappop(running)
        trials -= works[at][0] not in needed
        for later in waiting.get(works[at][0], []):
            missing[later].discard(works[at][0])
            if not missing[later]:
                heapq.heappush(ready[works[later][0] in needed], later)


def _next(ready: dict[bool, list[int]], *, room: int, trials: int) -> int:
    """The place, counted from 1, of the earliest work that has a slot, taken out of ``ready``; 0 if there is none."""
    able = [which for which in (True, False) if ready[which] and room > 0 and (which or trials > 0)]
    if not able:
        return 0
    return heapq.heappop(ready[min(able, key=lambda which: ready[which][0])]) + 1
