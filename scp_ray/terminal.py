"""Progress for people: on a terminal one line that is rewritten, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[[str, int, int], None]  # stage, done, total; a total of 0 where the length is not known

LIVE_EVERY_S = 1.0
PLAIN_EVERY_S = 30.0


def silent(stage: str, done: int, total: int) -> None:
    """A Progress that tells nobody."""


class Line:
    """Where progress is written."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.live = self._stream.isatty()
        self.every_s = LIVE_EVERY_S if self.live else PLAIN_EVERY_S

    def write(self, text: str, *, stays: bool) -> None:
        """On a terminal in place of what stood there; what ``stays`` is written over by nothing."""
        if self.live:
            self._stream.write(f"\r\x1b[K{text if stays else text[:150]}" + ("\n" if stays else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


class Counter:
    """Counts work of known length and says when the rest will be done: call it with (stage, done, total)."""

    def __init__(self, noun: str, stream: TextIO | None = None) -> None:
        self._noun = noun
        self._line = Line(stream)
        self._stage, self._before = "", 0
        self._started = self._told = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """A ``total`` of 0 is a stage of unknown length, told once."""
        now = time.monotonic()
        if not total:
            self._line.write(stage, stays=True)
            return
        if stage != self._stage:  # what was done before is no measure of how long the rest takes
            self._stage, self._before, self._started = stage, done, now
        last = done == total
        if not last and now - self._told < self._line.every_s / (5 if self._line.live else 1):
            return
        self._told = now
        took, parts = now - self._started, [f"{done:,} of {total:,} {self._noun}"]
        if last:
            parts.append(f"in {duration(took)}")
        elif done > self._before:
            parts.append(f"about {duration(took * (total - done) / (done - self._before))} left")
        bar = f"[{'#' * (30 * done // total):<30}] " if self._line.live else ""
        self._line.write(f"{stage}: {bar}{', '.join(parts)}", stays=last)

    def note(self, text: str) -> None:
        """A line that stays, in place of the one that is rewritten."""
        self._line.write(text, stays=True)


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
