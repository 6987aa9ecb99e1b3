"""The tracker's process: what MLflow takes of a processor, the driver does not wait for.

MLflow's database costs more time a round than everything else that a driver does for it, and in a thread both would
share one interpreter. The process starts with the first row, when the workers are at work, and ends with the driver,
however that ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from scp_ray.ledger.records import Records
from scp_ray.signals import SIGNALS
from scp_ray.tracking.background import Background, patience
from scp_ray.tracking.where import trackers

START_MOST_S = 60.0  # a machine whose cores are all busy imports MLflow slowly
# for a new database and the first runs, where a sweep is over before its tracker's process is there: only one that
# hangs from the first request on is waited for so long
FIRST_S = 20.0
END_S = 2.0  # to say the last word


class Apart:
    """A Sink whose ``Background`` runs in another process.

    Args:
        ledger: the driver's.
        replay_command: what a person runs to tell the tracker later what it has missed.
        say: where a line for the person goes.
    """

    def __init__(self, ledger: Records, replay_command: str, say: Callable[[str], None] | None = None) -> None:
        self._ledger, self._replay = ledger, replay_command
        self._say = say or (lambda line: print(line, file=sys.stderr))
        self._messages: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._process: Any = None
        self._opened_at = self._ready_at = 0.0
        self._ready, self._ended = threading.Event(), threading.Event()
        self._through = False  # the other side has said its last word

    def open(self, sweep: dict[str, Any]) -> None:
        """Kept until there is something to tell."""
        self._opened_at = time.monotonic()
        self._messages.put(("open", sweep))

    def grown(self, sweep: dict[str, Any]) -> None:
        """What is told from here on is told of this one."""
        self._messages.put(("grown", sweep))

    def round(self, row: dict[str, Any]) -> None:
        """There is more to tell of its trial or base model."""
        self._start()
        self._messages.put(("round", {"trial_id": row["trial_id"], "base_id": row["base_id"]}))

    def failed(self, failure: dict[str, Any]) -> None:
        """There is a failure to tell."""
        self._start()
        self._messages.put(("failed", failure))

    def close(self) -> None:
        """Wait until the other side has told what is pending, as long as ``patience`` says; end it."""
        if self._process is None:  # stopped before its first row
            return
        if self._ready.wait(START_MOST_S):
            now = time.monotonic()
            within_s = max(patience(now - self._opened_at), FIRST_S - (now - self._ready_at))
            self._messages.put(("close", within_s))
            self._ended.wait(within_s + END_S)
        self._process.kill()
        self._process.join()
        self._ended.wait(1.0)
        if not self._through:
            self._say(f"MLflow may lack something: its process did not end well. Fill it: {self._replay}")

    def _start(self) -> None:
        if self._process is not None:
            return
        context = multiprocessing.get_context("spawn")  # a fork of a process with Ray's threads may hang
        ours, theirs = context.Pipe()
        arguments = (theirs, str(self._ledger.root), self._ledger.token, self._replay)
        self._process = context.Process(target=_serve, args=arguments, name="scp_ray tracker", daemon=True)
        self._process.start()
        theirs.close()
        for work in (self._send, self._hear):
            threading.Thread(target=work, args=(ours,), name="scp_ray tracker", daemon=True).start()

    def _send(self, connection: Connection) -> None:
        with contextlib.suppress(OSError):  # it has died: ``_hear`` knows
            while True:
                connection.send(self._messages.get())

    def _hear(self, connection: Connection) -> None:
        with contextlib.suppress(EOFError, OSError):  # it has died before it was through: ``close`` says so
            while not self._through:
                kind, line = connection.recv()
                if kind == "ready":
                    self._ready_at = time.monotonic()
                    self._ready.set()
                if kind == "say":
                    self._say(line)
                self._through = kind == "through"
        self._ended.set()
        self._ready.set()


def _serve(connection: Connection, root: str, token: str | None, replay_command: str) -> None:
    """The other side: a ``Background`` that is told what the driver is told."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a signal to the whole group is the driver's, which ends this process
    import scp_ray.tracking.mlflow  # noqa: F401  takes seconds: before it is ready, not when it has to tell

    ledger = Records(root, token=token)
    tracker = Background(trackers(ledger), ledger, replay_command, lambda line: connection.send(("say", line)))
    try:
        with contextlib.suppress(EOFError, BrokenPipeError):  # the driver has died: nobody is left to tell
            connection.send(("ready", None))
            kind = ""
            while kind != "close":
                kind, content = connection.recv()
                getattr(tracker, kind)(content)
            connection.send(("through", None))
    finally:
        os._exit(0)  # a request that hangs keeps no process
