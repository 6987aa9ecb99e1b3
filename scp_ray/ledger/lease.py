"""One driver per sweep: driver.json, made exclusively, with a heartbeat."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from scp_ray import signals
from scp_ray.errors import LedgerError, SweepHeldError
from scp_ray.ledger.files import read_json, write_json

HEARTBEAT_S = 10.0
SILENCE_S = 60.0


class Lease:
    """Held by the driver for as long as it runs; ``token`` lets its trials check that it still is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = uuid.uuid4().hex
        self.lost = False  # another driver has taken over
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="scp_ray heartbeat", daemon=True)

    def __enter__(self) -> Lease:
        """Take the lease. Raises SweepHeldError where a living driver has it."""
        signals.at_end(self._release)
        while not self._create():
            self._clear_dead()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._release()
        signals.forget(self._release)

    def _release(self) -> None:
        self._stop.set()  # no beat may write it anew
        if holds(self.path, self.token):
            self.path.unlink()

    def _content(self) -> dict[str, Any]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token, "heartbeat": time.time()}

    def _create(self) -> bool:
        """Made beside and linked into place, so that nobody ever sees it empty; False where it is taken."""
        beside = self.path.with_name(f".{self.path.name}.new.{self.token}")
        write_json(beside, self._content())
        try:
            os.link(beside, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            raise LedgerError(f"cannot write {self.path}: {error}. Choose another --out.") from error
        finally:
            beside.unlink()
        return True

    def _clear_dead(self) -> None:
        """Put a dead driver's file aside, or raise SweepHeldError."""
        content = _read(self.path)
        if content is not None and not _dead(content):
            raise SweepHeldError(
                f"{self.path.parent} is held by process {content['pid']} on {content['host']}, last heard of "
                f"{max(0, time.time() - content['heartbeat']):.0f} s ago. Wait for it or stop it; a driver that is "
                f"gone is replaced after {SILENCE_S:.0f} s of silence."
            )
        aside = self.path.with_name(f".{self.path.name}.{self.token}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        # another driver may have taken over between the reading and the renaming: give its file back
        taken = _read(aside)
        if taken is not None and content is not None and taken["token"] != content["token"]:
            aside.rename(self.path)
            return
        aside.unlink()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            content = _read(self.path)
            if content is None:
                continue  # put aside for a moment by a driver that looks whether this one is alive
            if content["token"] != self.token:
                self.lost = True
                return
            with suppress(LedgerError):  # a full disk: the next beat may find room
                write_json(self.path, self._content())


def holds(path: Path, token: str) -> bool:
    """Whether the driver with this token still has the lease."""
    content = _read(path)
    return content is not None and content.get("token") == token


def living_driver(path: Path) -> dict[str, Any] | None:
    """The driver that holds the lease and was heard of lately, if any."""
    content = _read(path)
    return content if content is not None and not _dead(content) else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except LedgerError:
        return None
    fits = isinstance(content.get("heartbeat"), int | float) and isinstance(content.get("pid"), int)
    return content if fits and {"host", "token"} <= content.keys() else None


def _dead(content: dict[str, Any]) -> bool:
    if time.time() - content["heartbeat"] > SILENCE_S:
        return True
    if content["host"] != socket.gethostname():
        return False
    try:
        os.kill(content["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
