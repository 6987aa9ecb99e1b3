"""Progress for people: a bar on a terminal, plain lines elsewhere, and a time left that can be believed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest

from scp_ray import terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(terminal.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def count(clock: Clock, stream: io.StringIO, steps: Sequence[tuple[float, str, int, int]]) -> list[str]:
    """The lines that a counter of images writes when it is told at these times."""
    counter, written = terminal.Counter("images", stream), []
    for after, stage, done, total in steps:
        clock.now = 1000.0 + after
        counter(stage, done, total)
        written.append(stream.getvalue())
        stream.seek(0)
        stream.truncate()
    return written


def test_a_terminal_sees_a_bar_and_the_time_left(clock: Clock) -> None:
    # 300 images in 10 s, so the other 900 take 30 s; the bar has 30 places
    assert count(
        clock,
        Terminal(),
        [(0, "reading", 0, 1200), (10, "reading", 300, 1200), (30, "reading", 800, 1200), (40, "reading", 1200, 1200)],
    ) == [
        "",
        f"\r\x1b[Kreading: [{'#' * 7}{' ' * 23}] 300 of 1,200 images, about 30 s left",
        f"\r\x1b[Kreading: [{'#' * 20}{' ' * 10}] 800 of 1,200 images, about 15 s left",
        f"\r\x1b[Kreading: [{'#' * 30}] 1,200 of 1,200 images, in 40 s\n",
    ]


def test_a_file_sees_plain_lines_now_and_then(clock: Clock) -> None:
    assert count(
        clock,
        io.StringIO(),
        [
            (0, "reading", 0, 4000),
            (29, "reading", 500, 4000),
            (30, "reading", 1000, 4000),  # 3,000 more at 1,000 in 30 s
            (45, "reading", 1500, 4000),  # told 15 s ago
            (60, "reading", 1600, 4000),  # 2,400 more at 1,600 in 60 s
            (61, "reading", 4000, 4000),
        ],
    ) == [
        "",
        "",
        "reading: 1,000 of 4,000 images, about 2 min left\n",  # 90 s
        "",
        "reading: 1,600 of 4,000 images, about 2 min left\n",  # 90 s
        "reading: 4,000 of 4,000 images, in 61 s\n",
    ]


def test_what_was_done_before_is_no_measure_of_the_rest(clock: Clock) -> None:
    # 900 were there at the start; 50 in 40 s leave 50 for another 40 s
    steps = [(5, "reading", 900, 1000), (45, "reading", 950, 1000)]
    assert count(clock, io.StringIO(), steps)[1] == "reading: 950 of 1,000 images, about 40 s left\n"


def test_each_stage_is_timed_by_itself(clock: Clock) -> None:
    steps = [(0, "reading", 0, 10), (50, "reading", 10, 10), (60, "drawing", 0, 10), (100, "drawing", 8, 10)]
    assert count(clock, io.StringIO(), steps)[3] == "drawing: 8 of 10 images, about 10 s left\n"


@pytest.mark.parametrize(("stream", "start"), [(io.StringIO, ""), (Terminal, "\r\x1b[K")])
def test_a_stage_of_unknown_length_is_told_once(clock: Clock, stream: Any, start: str) -> None:
    assert count(clock, stream(), [(0, "writing a", 0, 0)]) == [f"{start}writing a\n"]


def test_a_terminal_is_rewritten_five_times_a_second(clock: Clock) -> None:
    steps = [(0, "r", 0, 9), (0.1, "r", 1, 9), (0.25, "r", 2, 9), (0.4, "r", 3, 9), (0.5, "r", 4, 9)]
    assert [bool(text) for text in count(clock, Terminal(), steps)] == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (5370, "1 h 30 min"), (11100, "3 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert terminal.duration(seconds) == text
