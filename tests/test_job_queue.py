"""Which job is handed out next: held against a plain walk through the list, for plans drawn at random."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, cast

import pytest
from miniature import SPACE
from ray.tune.search import Searcher

from scp_ray.config import ResolvedTrial, SweepConfig
from scp_ray.ledger import Ledger
from scp_ray.tune.bases import JobQueue
from scp_ray.tune.space import Job, first_scorings_first, plan_jobs


def job(identifier: str, requires: tuple[str, ...] = (), *, base: bool = False) -> Job:
    trial = None if base else cast(ResolvedTrial, object())
    return Job(identifier, identifier, cast(Any, None), trial, requires)


def drawn(stream: random.Random) -> list[Job]:
    """Up to 6 bases, each of which may need earlier ones and all that those need; up to 30 trials likewise."""
    needs: dict[str, tuple[str, ...]] = {}
    for index in range(stream.randint(1, 6)):
        some = stream.sample(sorted(needs), stream.randint(0, len(needs)))
        needs[f"base{index}"] = tuple(sorted({*some, *(deeper for base in some for deeper in needs[base])}))
    jobs = [job(name, requires, base=True) for name, requires in needs.items()]
    for index in range(stream.randint(0, 30)):
        some = stream.sample(sorted(needs), stream.randint(0, len(needs)))
        jobs.append(job(f"trial{index}", tuple(sorted({*some, *(deep for base in some for deep in needs[base])}))))
    return jobs


@pytest.mark.parametrize("seed", range(40))
def test_the_next_job_is_the_first_whose_bases_are_there(seed: int) -> None:
    """Jobs end in any order and a third of the bases fail; every job is handed out or given up, exactly once."""
    stream = random.Random(seed)
    jobs, there = drawn(stream), set()
    given_up: list[str] = []
    queue = JobQueue(jobs, finished=there.__contains__, give_up=lambda lost, base: given_up.append(lost.id))
    waiting, running, handed_out = list(jobs), [], []
    while waiting or running:
        first = next((each for each in waiting if {*each.requires} <= there), None)
        if first is not None and stream.random() < 0.6:
            assert queue.suggest(first.id) == {"job": first.id}
            waiting.remove(first)
            running.append(first)
            handed_out.append(first.id)
        elif running:
            ended = running.pop(stream.randrange(len(running)))
            fails = ended.trial is None and stream.random() < 0.3
            if not fails:
                there.add(ended.id)
            queue.on_trial_complete(ended.id)
            if fails:
                lost = {ended.id}
                waiting = [each for each in waiting if not lost.intersection(each.requires)]
        elif first is None:
            raise AssertionError("every job waits for another one")
        if running and all(not {*each.requires} <= there for each in waiting) and waiting:
            assert queue.suggest("later") is None
    assert queue.suggest("late") == Searcher.FINISHED
    assert sorted([*handed_out, *given_up]) == sorted(each.id for each in jobs)


def test_what_needs_a_given_up_base_is_given_up_too() -> None:
    """b needs a, and t only b: a fails, and nobody waits for ever."""
    given_up: list[tuple[str, str]] = []
    jobs = [job("a", base=True), job("b", ("a",), base=True), job("t", ("b",)), job("free")]
    queue = JobQueue(jobs, finished=lambda _: False, give_up=lambda lost, base: given_up.append((lost.id, base)))
    assert queue.suggest("1") == {"job": "a"}
    queue.on_trial_complete("1")
    assert given_up == [("b", "a"), ("t", "b")]
    assert queue.suggest("2") == {"job": "free"}
    queue.on_trial_complete("2")
    assert queue.suggest("3") == Searcher.FINISHED


def test_one_trial_of_each_first_scoring_goes_before_the_others() -> None:
    """Two ratios, two layers, two seeds: four scorings, which the first ratio makes and the second one reads."""
    raw = SPACE | {"grid": {"pr_c": [0.1, 0.2], "layer": [-1, -2]}, "seeds": [0, 1]}
    jobs = plan_jobs(SweepConfig.from_dict(raw).resolved_arms(), Ledger("nowhere")).to_do
    ordered = first_scorings_first(jobs)
    assert [each.id for each in ordered[:2]] == [each.id for each in jobs[:2]], "base models stay where they are"
    trials = [(each.config.pr_c, each.config.layer, each.config.seed) for each in ordered[2:]]
    assert trials[:4] == [(0.1, layer, seed) for layer in (-1, -2) for seed in (0, 1)]
    assert {pr_c for pr_c, *_ in trials[4:]} == {0.2}
    assert sorted(each.id for each in ordered) == sorted(each.id for each in jobs)
    begun = [replace(each, rounds_done=1) if each.id == ordered[2].id else each for each in jobs]
    second = first_scorings_first(begun)[2:]
    assert sorted(each.config.pr_c for each in second[:4]) == [0.1, 0.1, 0.1, 0.2], "what has begun has its scores"
