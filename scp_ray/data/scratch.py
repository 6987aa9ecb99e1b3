"""Looks at image files that are not yet in a store: kept as they come, so that what a kill interrupts goes on."""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scp_ray.data.facts import REMEDY, fact
from scp_ray.data.pixels import Look
from scp_ray.errors import DataError


class _Place(NamedTuple):
    part: int
    row: int
    checksum: int


class Scratch:
    """Pixels in parts, and a log with a line per image; a line counts once its pixels are written.

    Each process that builds has a part of its own, which its decoding processes write: those of one that was killed may
    still be at work for a moment, and disturb nobody.
    """

    def __init__(self, folder: Path, row_bytes: int) -> None:
        """Open what lies there; ``row_bytes`` 0 keeps no pixels."""
        self._folder, self._row_bytes = folder, row_bytes
        self.facts: list[dict[str, object]] = []
        self._places: dict[str, _Place] = {}  # by digest
        self._parts: dict[int, int] = {}  # open files
        self._inherited: set[int] = set()

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
            if not line.endswith(b"\n") or self._row_bytes * (row + 1) > room.get(part, 0):
                break
            self._note(entry)
            good += len(line)
        self._log.truncate(good)

    def _note(self, entry: dict[str, object]) -> None:
        entry["phash"] = bytes.fromhex(str(entry["phash"]))
        place = _Place(*entry.pop("place"))  # type: ignore[misc]
        self.facts.append(entry)
        if self._row_bytes and not entry["problem"]:
            self._places[str(entry["digest"])] = place

    @property
    def target(self) -> Path:
        """The file that takes the pixels of this process's looks, each at its row."""
        return self._path(self._part)

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

    def digests(self) -> set[str]:
        """Of the files whose pixels are here."""
        return set(self._places)

    def read(self, digest: str) -> NDArray[np.uint8]:
        """(3 * S * S,) uint8. Raises DataError where the disk gives back other bytes than it was given."""
        part, row, checksum = self._places[digest]
        content = os.pread(self._parts[part], self._row_bytes, row * self._row_bytes)
        if part in self._inherited and zlib.crc32(content) != checksum:  # what a power failure may have left
            raise DataError(f"{self._folder} is damaged. Delete it and build again.")
        return np.frombuffer(content, np.uint8)

    def mapped(self, digests: Sequence[str]) -> NDArray[np.uint8] | None:
        """(N, 3 * S * S), where the images of these files lie in one part in this order; else None."""
        places = [self._places.get(digest) for digest in digests]
        first = places[0]
        if first is None or any(
            place is None or place[:2] != (first.part, first.row + index) for index, place in enumerate(places)
        ):
            return None
        if first.part in self._inherited:
            for digest in digests:
                self.read(digest)  # raises where bytes are not what they were
        return self._map(self._path(first.part), first.row, len(digests))

    def gathered(self, rows: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The rows (3 * S * S,) as (N, 3 * S * S) in a file of their own."""
        path = self._folder / f"gathered-{uuid.uuid4().hex[:8]}"
        try:
            with path.open("wb") as file:
                count = sum(file.write(row) for row in rows) // self._row_bytes
        except OSError as error:
            raise self.refused(error) from error
        return self._map(path, 0, count)

    def _map(self, path: Path, first: int, count: int) -> NDArray[np.uint8]:
        shape = (count, self._row_bytes)
        return np.memmap(path, np.uint8, "r", first * self._row_bytes, shape)

    def remove(self) -> None:
        """Everything, once it is in a store."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def refused(self, error: OSError) -> DataError:
        """What a disk's refusal means for the user."""
        return DataError(f"cannot write {self._folder}: {error}. {REMEDY}")
