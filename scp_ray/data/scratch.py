"""Looks at image files that are not yet in a store: kept as they come, so that what a kill interrupts goes on."""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scp_ray.data.facts import REMEDY, fact
from scp_ray.data.pixels import Look
from scp_ray.errors import DataError

LEAD = 1 << 13  # bytes that a store keeps before its pixels, for Arrow's header


class _Place(NamedTuple):
    part: int
    row: int
    checksum: int


class Scratch:
    """Pixels in parts, and a log with a line per image; a line counts once its pixels are written.

    A part has its pixels where a store has them, so that it can become one.

    Each process that builds has a part of its own, which its decoding processes write: those of one that was killed may
    still be at work for a moment, and disturb nobody.
    """

    def __init__(self, folder: Path, row_bytes: int) -> None:
        """Open what lies there; ``row_bytes`` 0 keeps no pixels."""
        self._folder, self.row_bytes = folder, row_bytes
        self.facts: list[dict[str, object]] = []
        self._places: dict[str, _Place] = {}  # by digest
        self._parts: dict[int, int] = {}  # open files
        self._inherited: set[int] = set()
        self._flusher = ThreadPoolExecutor(1)
        self._flushed: Future[None] | None = None

    def __enter__(self) -> Scratch:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._log = (self._folder / "log").open("ab+")
            self._recover()
            self._part = max(self._parts, default=-1) + 1
            self._open(self._part, os.O_CREAT | os.O_EXCL)
        except OSError as error:
            raise self.refused(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._flusher.shutdown()
        for part in self._parts.values():
            os.close(part)
        with suppress(OSError):  # what a full disk refused was said when it was written
            self._log.close()

    def _open(self, part: int, flags: int = 0) -> int:
        self._parts[part] = os.open(self._path(part), os.O_RDWR | flags, 0o644)
        return self._parts[part]

    def _path(self, part: int) -> Path:
        return self._folder / f"pixels-{part}"

    def _recover(self) -> None:
        """Read what is whole of the log and has its pixels; a torn tail is cut off."""
        for path in self._folder.glob("pixels-*"):
            self._open(int(path.name.partition("-")[2]))
        self._inherited = set(self._parts)
        room = {part: os.fstat(file).st_size for part, file in self._parts.items()}
        self._log.seek(0)
        good = 0
        for line in self._log:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            part, row, _ = entry["place"]
            if not line.endswith(b"\n") or (self.row_bytes and self.offset(row + 1) > room.get(part, 0)):
                break
            self._note(entry)
            good += len(line)
        self._log.truncate(good)

    def _note(self, entry: dict[str, object]) -> None:
        entry["phash"] = bytes.fromhex(str(entry["phash"]))
        place = _Place(*entry.pop("place"))  # type: ignore[misc]
        self.facts.append(entry)
        if self.row_bytes and not entry["problem"]:
            self._places[str(entry["digest"])] = place

    @property
    def target(self) -> Path:
        """The file that takes the pixels of this process's looks, each at its row."""
        return self._path(self._part)

    def offset(self, row: int) -> int:
        """Where in a part the pixels of a row begin."""
        return LEAD + row * self.row_bytes

    def add(self, looks: Iterable[tuple[str, tuple[int, int], Look]], first_row: int) -> None:
        """Log looks at files, each with its name and stamp, whose pixels lie in ``target`` from ``first_row`` on.

        Raises DataError where the disk is full.
        """
        entries = [
            fact(file, stamp, look)
            | {"phash": look.phash.hex(), "place": [self._part, first_row + index, look.checksum]}
            for index, (file, stamp, look) in enumerate(looks)
        ]
        try:
            self._log.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
            self._log.flush()
        except OSError as error:
            raise self.refused(error) from error
        for entry in entries:
            self._note(entry)

    def begin_flush(self) -> None:
        """Let the disk take the pixels of this process while something else is done; ``in_place`` waits for it."""
        self._flushed = self._flusher.submit(os.fdatasync, self._parts[self._part])

    def digests(self) -> set[str]:
        """Of the files whose pixels are here."""
        return set(self._places)

    def read(self, digest: str) -> NDArray[np.uint8]:
        """(3 * S * S,) uint8. Raises DataError where the disk gives back other bytes than it was given."""
        part, row, checksum = self._places[digest]
        content = os.pread(self._parts[part], self.row_bytes, self.offset(row))
        if part in self._inherited and zlib.crc32(content) != checksum:  # what a power failure may have left
            raise DataError(f"{self._folder} is damaged. Delete it and build again.")
        return np.frombuffer(content, np.uint8)

    def in_place(self, digests: Sequence[str]) -> Path | None:
        """The part whose first rows are the images of these files in this order, where there is one.

        Raises DataError where the disk refuses or gives back other bytes than it was given.
        """
        places = [self._places.get(digest) for digest in digests]
        part = places[0].part if places[0] else -1
        if any(place is None or place[:2] != (part, row) for row, place in enumerate(places)):
            return None
        if part in self._inherited:
            for digest in digests:
                self.read(digest)
        try:
            if self._flushed is not None:
                self._flushed.result()
        except OSError as error:
            raise self.refused(error) from error
        return self._path(part)

    def gathered(self, rows: Iterable[NDArray[np.uint8]]) -> Path:
        """The rows (3 * S * S,) in a file of their own."""
        path = self._folder / f"gathered-{uuid.uuid4().hex[:8]}"
        try:
            with path.open("wb") as file:
                file.seek(self.offset(0))
                file.writelines(rows)
        except OSError as error:
            raise self.refused(error) from error
        return path

    def remove(self) -> None:
        """Everything, once it is in a store."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def refused(self, error: OSError) -> DataError:
        """What a disk's refusal means for the user."""
        return DataError(f"cannot write {self._folder}: {error}. {REMEDY}")
