"""One driver per sweep: driver.json, made exclusively, with a heartbeat.

On an object store each of its changes is one PUT on condition: that no object is there, or the very one that was read.
Of two drivers that start together, or find the same dead one, the store lets one in; one that lost the sweep while it
was paused cannot bring its own heartbeat back.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from scp_ray import places, signals
from scp_ray.errors import LedgerError, StoreError, SweepHeldError
from scp_ray.ledger.files import STORE_REMEDY, read_json, write_json
from scp_ray.places import AnyPath
from scp_ray.remote import RemotePath

HEARTBEAT_S = 10.0
SILENCE_S = 60.0


class Lease:
    """Held by the driver for as long as it runs; ``token`` lets its trials check that it still is.

    Args:
        remedy: how an error ends where driver.json cannot be written.
    """

    def __init__(self, path: Path, remedy: str = "Free space or choose another --out, then try again.") -> None:
        self.path, self._remedy = path, remedy
        self.token = uuid.uuid4().hex
        self.lost = False  # another driver has taken over
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="scp_ray heartbeat", daemon=True)

    def __enter__(self) -> Lease:
        """Take the lease. Raises SweepHeldError where a living driver has it."""
        signals.at_end(self._release)
        try:
            while not self._create():
                if self._replace_dead():
                    break
        except BaseException:
            self._release()
            signals.forget(self._release)
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._release()
        signals.forget(self._release)

    def _release(self) -> None:
        self._stop.set()  # no beat may write it anew
        with suppress(OSError):  # then it is silent from now on, and replaced like a dead one's
            if holds(self.path, self.token):
                self.path.unlink()

    def _content(self) -> dict[str, Any]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token, "heartbeat": time.time()}

    def _encoded(self) -> bytes:
        return (json.dumps(self._content(), indent=2) + "\n").encode()

    def _create(self) -> bool:
        """Made beside and linked into place, so that nobody ever sees it empty; False where it is taken."""
        beside = self.path.with_name(f".{self.path.name}.new.{self.token}")
        with places.replacing(beside, LedgerError, self._remedy) as file:
            file.write(self._encoded())
        try:
            os.link(beside, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            raise LedgerError(f"cannot write {self.path}: {error}. {self._remedy}") from error
        finally:
            beside.unlink()
        return True

    def _replace_dead(self) -> bool:
        """Put a dead driver's file aside, so that one can be made; False: it is yet to be made.

        Raises SweepHeldError where the driver lives.
        """
        content = _read(self.path)
        _refuse_living(self.path, content)
        aside = self.path.with_name(f".{self.path.name}.{self.token}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return False
        # another driver may have taken over between the reading and the renaming: give its file back
        taken = _read(aside)
        if taken is not None and content is not None and taken["token"] != content["token"]:
            aside.rename(self.path)
            return False
        aside.unlink()
        return False

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            if not self._renew():
                self.lost = True
                return

    def _renew(self) -> bool:
        """A new heartbeat; False where another driver has the sweep."""
        content = _read(self.path)
        if content is None:
            return True  # put aside for a moment by a driver that looks whether this one is alive
        if content["token"] != self.token:
            return False
        with suppress(LedgerError):  # a full disk: the next beat may find room
            write_json(self.path, self._content())
        return True


class StoreLease(Lease):
    """The same on an object store."""

    path: RemotePath  # type: ignore[assignment]

    def __init__(self, path: RemotePath, remedy: str = STORE_REMEDY) -> None:
        super().__init__(path, remedy)  # type: ignore[arg-type]
        self._version = ""  # of driver.json as this driver wrote it last

    def _release(self) -> None:
        self._stop.set()
        with suppress(StoreError):  # as on a disk
            if self._version and self._confirm():  # held once, and nobody else can take it for the next minute
                self.path.unlink()

    def _create(self) -> bool:
        try:
            version = self.path.create(self._encoded())
        except (OSError, LedgerError) as error:
            raise LedgerError(f"cannot write {self.path}: {error}. {self._remedy}") from error
        self._version = version or ""
        if version is not None:
            self._check_conditions()
        return version is not None

    def _check_conditions(self) -> None:
        """A store that takes a write whose condition does not hold lets every driver in. Raises LedgerError."""
        if self.path.create(b"{}") is not None or self.path.exchange('"0"', b"{}") is not None:
            self.path.unlink()
            raise LedgerError(
                f"the object store of {self.path.parent} ignores the conditions of a write (If-None-Match, If-Match), "
                "so two drivers of one sweep could not be kept apart. Choose another store, or a mounted folder."
            )

    def _replace_dead(self) -> bool:
        try:
            version = self.path.version()  # first: what is read then is of this version or a newer one
            _refuse_living(self.path, _read(self.path))
            return self._exchange(version)
        except FileNotFoundError:
            return False

    def _renew(self) -> bool:
        try:
            return self._confirm()
        except StoreError:
            return True  # it answers to nobody: the next beat may find it in order

    def _confirm(self) -> bool:
        """A new heartbeat; False where another driver has the sweep, or driver.json was deleted."""
        if self._exchange(self._version):
            return True
        try:
            version = self.path.version()  # perhaps an earlier beat of ours arrived, and its answer did not
            return holds(self.path, self.token) and self._exchange(version)
        except FileNotFoundError:
            return False

    def _exchange(self, version: str) -> bool:
        """Put our heartbeat in the place of that version."""
        written = self.path.exchange(version, self._encoded())
        self._version = written or self._version
        return written is not None


def lease_on(path: AnyPath, **remedy: str) -> Lease:
    """The lease that fits the place of driver.json; ``remedy`` as ``Lease`` takes it."""
    return StoreLease(path, **remedy) if isinstance(path, RemotePath) else Lease(path, **remedy)


def holds(path: AnyPath, token: str) -> bool:
    """Whether the driver with this token still has the lease. Raises StoreError where a store does not say."""
    content = _read(path)
    return content is not None and content.get("token") == token


def living_driver(path: AnyPath) -> dict[str, Any] | None:
    """The driver that holds the lease and was heard of lately, if any. Raises StoreError as ``holds``."""
    content = _read(path)
    return content if content is not None and not _dead(content) else None


def _refuse_living(path: AnyPath, content: dict[str, Any] | None) -> None:
    """Raises SweepHeldError where the driver that wrote this content lives."""
    if content is None:
        return
    heard, advice = f"{max(0, time.time() - content['heartbeat']):.0f} s ago", ""
    if _dead(content):
        later = _a_beat_later(path, content)
        if later is None or (later["token"], later["heartbeat"]) == (content["token"], content["heartbeat"]):
            return
        if later["token"] == content["token"]:
            advice = " Set the clocks: that machine's and this one's differ by a minute or more."
        content, heard = later, "just now"
    raise SweepHeldError(
        f"{path.parent} is held by process {content['pid']} on {content['host']}, last heard of {heard}. Wait for it "
        f"or stop it; a driver that is gone is replaced after {SILENCE_S:.0f} s of silence.{advice}"
    )


def _a_beat_later(path: AnyPath, content: dict[str, Any]) -> dict[str, Any] | None:
    """What a driver of another host has written by its next heartbeat: its clock need not be this one's."""
    if content["host"] == socket.gethostname():
        return content
    time.sleep(1.2 * HEARTBEAT_S)
    return _read(path)


def _read(path: AnyPath) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except StoreError:
        raise  # not to be heard is not the same as not to be there
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
