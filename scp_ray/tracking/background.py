"""A Sink behind a queue: whatever the tracker does, the sweep goes on."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from scp_ray.ledger import Sink

FLUSH_S = 60.0


class Background:
    """Hands everything to a thread. The first error ends the telling, not the sweep: the ledger has it all."""

    def __init__(self, sink: Sink, replay_command: str) -> None:
        self._sink = sink
        self._replay = replay_command
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="scp_ray tracker", daemon=True)

    def open(self, sweep: dict[str, Any]) -> None:
        """Start the thread; it opens the tracker."""
        self._queue.put(lambda: self._sink.open(sweep))
        self._thread.start()

    def round(self, row: dict[str, Any]) -> None:
        """Queue a row."""
        self._queue.put(lambda: self._sink.round(row))

    def failed(self, failure: dict[str, Any]) -> None:
        """Queue a failure."""
        self._queue.put(lambda: self._sink.failed(failure))

    def close(self) -> None:
        """Wait for what is pending, up to a minute."""
        self._queue.put(self._sink.close)
        self._queue.put(None)
        self._thread.join(FLUSH_S)
        if self._thread.is_alive():
            self._warn(f"the tracker has not answered for {FLUSH_S:.0f} s")

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            try:
                task()
            except Exception as error:  # any tracker, any fault: it may not reach the sweep
                self._warn(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
                return

    def _warn(self, what: str) -> None:
        print(f"tracking stopped: {what}. The sweep goes on; fill the tracker later: {self._replay}", file=sys.stderr)
