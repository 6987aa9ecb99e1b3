"""SIGINT, SIGTERM and SIGUSR1 end a command: out within 10 s, exit code 75, none of its processes left.

What the ledger holds is complete or absent whatever moment a process ends at, so nothing has to be saved first, and
what does not end by itself is killed. Slurm sends SIGUSR1 where it was asked to (``--signal=USR1@60``).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

EXIT_CODE = 75  # EX_TEMPFAIL: run again to go on
GRACE_S = 6.0  # for an orderly end; what is left after it is killed
RELEASE_S = 1.5
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
MESSAGE = "scp-ray: stopped; run the same command again to go on."

_taken = False
_at_end: list[Callable[[], None]] = []
_received = threading.Event()


class Stopped(KeyboardInterrupt):
    """Raised in the main thread, wherever it is, by the first signal."""


def take() -> None:
    """Take the signals for the rest of this process; on its main thread."""
    global _taken
    _taken = True
    take_back()


def take_back() -> None:
    """Take them again, where they were taken, from a library that has put handlers of its own in place."""
    for number in SIGNALS if _taken else ():
        signal.signal(number, _handle)


def taken() -> bool:
    """Whether this process is a command's own."""
    return _taken


def received() -> bool:
    """Whether a signal has come."""
    return _received.is_set()


def at_end(release: Callable[[], None]) -> None:
    """Have ``release`` called by ``end_now``, after this process's children are dead."""
    _at_end.append(release)


def forget(release: Callable[[], None]) -> None:
    """Take back ``at_end``."""
    with suppress(ValueError):
        _at_end.remove(release)


def end_now(code: int) -> NoReturn:
    """Kill every process below this one, release what is held, and leave without another word."""
    kill_below(os.getpid())
    # beside, since a release may wait for a disk that does not answer
    releasing = threading.Thread(target=_release, daemon=True)
    releasing.start()
    releasing.join(RELEASE_S)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # closed, its reader gone, or being written to just now
            stream.flush()
    os._exit(code)


def _handle(number: int, frame: Any) -> None:
    if _received.is_set():  # a second signal ends at once
        _end_late()
    _received.set()
    late = threading.Timer(GRACE_S, _end_late)
    late.daemon = True
    late.start()
    raise Stopped


def _end_late() -> None:
    with suppress(OSError):
        os.write(2, f"{MESSAGE}\n".encode())
    end_now(EXIT_CODE)


def _release() -> None:
    for release in tuple(_at_end):
        with suppress(Exception):  # on the way out: what cannot be released is found dead by whoever comes next
            release()


def kill_below(process: int) -> None:
    """Kill every process below, children before their parents."""
    for child in reversed(below(process)):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)


def below(process: int) -> list[int]:
    """Ids of all processes below, parents first. Empty where there is no /proc: there Ray ends its own."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended since
            pid, rest = stat.read_text().split(" ", 1)
            children.setdefault(int(rest.rpartition(")")[2].split()[1]), []).append(int(pid))
    found = [process]
    for parent in found:
        found.extend(children.get(parent, ()))
    return found[1:]
