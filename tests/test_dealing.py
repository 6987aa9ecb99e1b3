"""Who takes which piece next: no Ray, and times that the tests make up."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from scp_ray.tune.dealing import IN_FLIGHT, LATE, LOST, LOST_S, UNKNOWN_S, Dealer, Task


def dealer(pieces: int, lot: str = "") -> Dealer:
    made = Dealer()
    made.start(range(pieces), lot, 0)
    return made


def test_pieces_are_dealt_in_order_and_two_at_a_time() -> None:
    deal = dealer(5)
    assert [deal.take(worker, 0) for worker in "abab"] == [Task(1, 0), Task(1, 1), Task(1, 2), Task(1, 3)]
    assert IN_FLIGHT == 2 and deal.take("a", 0) is None
    assert deal.answered("a", Task(1, 0), 1.0)
    assert deal.take("a", 1.0) == Task(1, 4) and deal.missing == 4


def test_what_waits_behind_another_piece_is_taken_over_at_once() -> None:
    deal = dealer(3)
    assert [deal.take(worker, 0).piece for worker in "aba"] == [0, 1, 2]  # type: ignore[union-attr]
    assert deal.take("b", 0.5) is None, "b has work of its own"
    deal.answered("b", Task(1, 1), 1.0)
    assert deal.take("b", 1.0) == Task(1, 2)
    assert deal.take("c", 1.0) is None, "two are at it, and what a works at is not late"
    assert deal.answered("b", Task(1, 2), 2.0) and deal.missing == 1
    assert not deal.answered("a", Task(1, 2), 3.0), "the second answer counts no more"


def test_what_takes_long_is_taken_over_by_one_other() -> None:
    """The median is 1 s, so that after 2 s a piece is late."""
    deal = dealer(3)
    assert [deal.take(worker, 0).piece for worker in "abb"] == [0, 1, 2]  # type: ignore[union-attr]
    deal.answered("b", Task(1, 1), 1.0)
    deal.answered("b", Task(1, 2), 2.0)
    assert LATE == 2 and deal.take("b", 2.0) is None
    assert deal.take("b", 2.1) == Task(1, 0)
    assert deal.take("c", 9.0) is None
    assert deal.answered("b", Task(1, 0), 3.0) and deal.missing == 0


def test_what_a_lost_worker_held_is_dealt_before_all_else() -> None:
    deal = dealer(6)
    for worker in "abab":
        deal.take(worker, 0)
    deal.lost("a")
    deal.answered("b", Task(1, 1), 1)
    assert deal.take("c", 1) == Task(1, 0) and deal.take("c", 1) == Task(1, 2) and deal.take("b", 1) == Task(1, 4)


def test_what_another_holds_as_well_is_not_dealt_again() -> None:
    deal = dealer(2)
    deal.take("a", 0), deal.take("a", 0)
    assert deal.take("b", 0) == Task(1, 1)
    deal.lost("b")
    deal.answered("a", Task(1, 0), 1)
    assert deal.take("a", 1) is None, "a holds the other one still"
    assert deal.take("c", UNKNOWN_S) == Task(1, 1)
    deal.lost("a"), deal.lost("c")
    assert deal.take("d", UNKNOWN_S) == Task(1, 1) and deal.take("d", UNKNOWN_S) is None


def test_a_worker_hangs_after_twenty_medians_and_no_less_than_a_minute() -> None:
    deal = dealer(9)
    deal.take("a", 0), deal.take("b", 0), deal.take("b", 0), deal.take("a", 500)
    assert (LOST, LOST_S) == (20, 60)
    deal.answered("b", Task(1, 1), 2.0)  # 20 medians are 40 s
    assert deal.give_up(60) == [] and deal.give_up(61) == ["a"], "b has been at its second piece since 2 s"
    deal.take("a", 0)
    deal.answered("b", Task(1, 2), 20.0)  # median of 2 and 18 s: 10 s
    assert deal.give_up(200) == [] and deal.give_up(201) == ["a"]


def test_as_long_as_nobody_has_answered_one_is_given_up_at_a_time() -> None:
    """A piece takes 1,500 s: the first is lost after 600, a second after 1,200, and nobody before 2,400."""
    deal = dealer(9, "long")
    for at, worker in enumerate("abc"):
        deal.take(worker, at)
    assert deal.give_up(UNKNOWN_S) == [] and deal.give_up(603) == ["a"] and deal.give_up(1200) == []
    deal.take("a", 603)  # another process in its place
    assert deal.give_up(1300) == ["b"] and deal.give_up(1502) == []
    assert deal.answered("c", Task(1, 2), 1502)
    assert deal.give_up(20 * 1500) == [] and deal.give_up(20 * 1500 + 604) == ["a"]
    deal.start(range(1), "other", 40_000)
    deal.take("c", 40_000)
    assert deal.give_up(42_400) == [] and deal.give_up(42_401) == ["c"], "patience is not unlearned"
    deal.start(range(1), "long", 50_000)
    deal.take("c", 50_000)
    assert deal.give_up(80_000) == [], "and a median of 1,500 s is known of this kind"


def test_time_between_two_lots_is_nobodys() -> None:
    """A copy was still in the queue of a when the lot ended; an hour of training later a has long done it."""
    deal = dealer(2)
    for worker in "aab":
        deal.take(worker, 0)  # b copies the piece that waits behind another
    deal.answered("a", Task(1, 0), 1)
    deal.answered("b", Task(1, 1), 1)
    assert deal.missing == 0
    deal.start(range(2), "", 3600)
    assert deal.give_up(3660) == [] and deal.give_up(3661) == ["a"], "but from then on it counts"


def test_answers_to_an_earlier_lot_count_no_more_and_tell_no_time() -> None:
    deal = dealer(1, "quick")
    deal.take("a", 0)
    deal.take("b", UNKNOWN_S * 3)  # late: a copy
    deal.answered("b", Task(1, 0), UNKNOWN_S * 3 + 1)
    deal.start(range(1), "quick", UNKNOWN_S * 3 + 1)
    assert not deal.answered("a", Task(1, 0), UNKNOWN_S * 4) and deal.missing == 1
    deal.take("a", 0)
    assert deal.give_up(61) == ["a"], "a median of 1 s is known of this kind"
    deal.start(range(1), "slow", 0)
    deal.take("a", 0)
    assert deal.give_up(61) == [], "of another kind nothing is known"


@pytest.mark.parametrize("seed", range(20))
def test_every_piece_is_answered_once_whatever_happens(seed: int) -> None:
    """Workers of all speeds, some of which die or answer no more, until one is left: each piece counts once."""
    chance, deal, now, counted = random.Random(seed), dealer(40), 0.0, Counter[int]()
    alive = {worker: chance.choice([1, 3, 50, 10**9]) for worker in "abcdef"} | {"last": 2}
    ends: dict[str, list[tuple[float, Task]]] = {worker: [] for worker in alive}
    while deal.missing:
        now += 1
        for worker in [*alive]:
            while (task := deal.take(worker, now)) is not None:
                begin = max([now, *(end for end, _ in ends[worker])])
                ends[worker].append((begin + alive[worker], task))
            while ends[worker] and ends[worker][0][0] <= now:
                counted[ends[worker][0][1].piece] += deal.answered(worker, ends[worker].pop(0)[1], now)
            if worker != "last" and chance.random() < 0.02:
                deal.lost(worker)
                ends[worker] = []
        for worker in deal.give_up(now):
            del alive[str(worker)]
        assert now < 10_000
    assert counted == Counter(range(40))
