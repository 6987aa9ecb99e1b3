"""Files that are complete or absent: write beside, fsync, rename."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from scp_ray.errors import ScpError


@contextmanager
def replacing(path: Path, error: type[ScpError], remedy: str) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` in one step: a reader sees the old one or the whole new one.

    Raises ``error``, ending in ``remedy``, where the disk refuses (full, read-only), leaving what was there.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w+b") as file:
            yield file
            settle(file, path)
    except OSError as refused:
        raise error(f"cannot write {path}: {refused}. {remedy}") from refused
    finally:
        with suppress(OSError):  # gone after the rename; where the folder is no folder there is none
            beside.unlink(missing_ok=True)


def settle(file: BinaryIO, path: Path) -> None:
    """Put an open file of the same disk in the place of ``path``, whole and durably. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())
    os.replace(file.name, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear_unfinished(folder: Path, pattern: str) -> None:
    """Remove what a killed process left of files that match ``pattern``; only where nobody else may be writing them."""
    for path in folder.glob(f".{pattern}.*"):
        path.unlink(missing_ok=True)
