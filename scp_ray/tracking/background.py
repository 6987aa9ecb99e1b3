"""A Sink behind a queue: whatever the tracker does, the sweep goes on."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from scp_ray.ledger import Sink

OPEN_S = 15.0
FLUSH_S = 60.0


class Background:
    """Hands everything to a thread. The first error ends the telling, not the sweep: the ledger has it all.

    Args:
        make: makes the sink; called in the thread at once, so that a slow import costs the caller nothing.
        replay_command: what a person runs to tell the tracker later what it has missed.
    """

    def __init__(self, make: Callable[[], Sink], replay_command: str) -> None:
        self._replay = replay_command
        self._tasks: queue.SimpleQueue[Callable[[Sink], None] | None] = queue.SimpleQueue()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(make,), name="scp_ray tracker", daemon=True)
        self._thread.start()

    def open(self, sweep: dict[str, Any]) -> None:
        """Open the tracker and wait for it, up to 15 s: its database is there before any worker starts."""
        self._tasks.put(lambda sink: sink.open(sweep))
        self._tasks.put(lambda sink: self._opened.set())
        self._opened.wait(OPEN_S)

    def round(self, row: dict[str, Any]) -> None:
        """Queue a row."""
        self._tasks.put(lambda sink: sink.round(row))

    def failed(self, failure: dict[str, Any]) -> None:
        """Queue a failure."""
        self._tasks.put(lambda sink: sink.failed(failure))

    def close(self) -> None:
        """Wait for what is pending, up to a minute."""
        self._tasks.put(lambda sink: sink.close())
        self._tasks.put(None)
        self._thread.join(FLUSH_S)
        if self._thread.is_alive():
            self._warn(f"the tracker has not answered for {FLUSH_S:.0f} s")

    def _work(self, make: Callable[[], Sink]) -> None:
        try:
            sink = make()
            while (task := self._tasks.get()) is not None:
                task(sink)
        except Exception as error:  # any tracker, any fault: it may not reach the sweep
            self._warn(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
        finally:
            self._opened.set()

    def _warn(self, what: str) -> None:
        print(f"tracking stopped: {what}. The sweep goes on; fill the tracker later: {self._replay}", file=sys.stderr)
