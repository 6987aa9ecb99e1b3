"""Looks at image files that are not yet in a store: appended one by one, so that what a kill interrupts goes on."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from scp_ray.data.facts import REMEDY, fact
from scp_ray.data.pixels import Look
from scp_ray.errors import DataError


class Scratch:
    """A file of pixels and a log with a line per image; a line counts once its pixels are written."""

    def __init__(self, folder: Path, row_bytes: int) -> None:
        """Open what lies there; ``row_bytes`` 0 keeps no pixels."""
        self._folder, self._row_bytes = folder, row_bytes
        self.facts: list[dict[str, object]] = []
        self._place: dict[str, tuple[int, int]] = {}  # digest -> row, checksum
        self._rows = self._inherited = 0

    def __enter__(self) -> Scratch:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._pixels = (self._folder / "pixels").open("ab+")
            self._log = (self._folder / "log").open("ab+")
            self._recover()
        except OSError as error:
            raise self._refused(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for file in (self._pixels, self._log):
            with suppress(OSError):  # what a full disk refused was said when it was written
                file.close()

    def _recover(self) -> None:
        """Read what is whole of the log and has its pixels; a torn tail of either file is cut off."""
        room = os.fstat(self._pixels.fileno()).st_size
        self._log.seek(0)
        good = 0
        for line in self._log:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            takes = self._row_bytes * (self._rows + (not entry["problem"]))
            if not line.endswith(b"\n") or takes > room:
                break
            self._note(entry)
            good += len(line)
        self._inherited = self._rows
        self._log.truncate(good)
        self._pixels.truncate(self._rows * self._row_bytes)

    def _note(self, entry: dict[str, object]) -> None:
        entry["phash"] = bytes.fromhex(str(entry["phash"]))
        checksum = entry.pop("checksum")
        self.facts.append(entry)
        if self._row_bytes and not entry["problem"]:
            assert isinstance(checksum, int)
            self._place[str(entry["digest"])] = (self._rows, checksum)
            self._rows += 1

    def add(self, looks: Iterable[tuple[str, tuple[int, int], Look]]) -> None:
        """Keep looks at files, each with the file's name and stamp. Raises DataError where the disk is full."""
        entries = []
        try:
            for file, stamp, look in looks:
                entries.append(fact(file, stamp, look) | {"phash": look.phash.hex(), "checksum": look.checksum})
                if self._row_bytes:
                    self._pixels.write(look.pixels)
            self._pixels.flush()
            self._log.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
            self._log.flush()
        except OSError as error:
            raise self._refused(error) from error
        for entry in entries:
            self._note(entry)

    def digests(self) -> set[str]:
        """Of the files whose pixels are here."""
        return set(self._place)

    def read(self, digest: str) -> NDArray[np.uint8]:
        """(3 * S * S,) uint8. Raises DataError where the disk gives back other bytes than it was given."""
        row, checksum = self._place[digest]
        self._pixels.seek(row * self._row_bytes)
        content = self._pixels.read(self._row_bytes)
        if row < self._inherited and zlib.crc32(content) != checksum:  # what a power failure may have left
            raise DataError(f"{self._folder} is damaged. Delete it and build again.")
        return np.frombuffer(content, np.uint8)

    def remove(self) -> None:
        """Everything, once it is in a store."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _refused(self, error: OSError) -> DataError:
        return DataError(f"cannot write {self._folder}: {error}. {REMEDY}")
