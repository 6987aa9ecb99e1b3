"""The image files of a data set, and the folder of this node where what is made of them is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from scp_ray.data.facts import REMEDY, read_stamps
from scp_ray.errors import DataError
from scp_ray.terminal import Progress


@dataclass(frozen=True)
class Source:
    """The image files of a data set, and where what is made of them is kept."""

    root: Path
    files: tuple[str, ...]  # relative to root
    in_order: tuple[str, ...] = ()  # of the store, where it is known before they are read: that spares it a copy
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        name = f"{self.root.name or 'root'}-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"
        object.__setattr__(self, "folder", store_home() / name)

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file. Raises DataError where none of them is there."""
        stamps = read_stamps(self.root, self.files)
        if all(stamp[0] < 0 for stamp in stamps.values()):
            raise DataError(
                f"none of the {len(stamps):,} images that the table lists is there; the first should be "
                f"{self.root / next(iter(stamps))}. Bring them, or name the folder that holds them."
            )
        return stamps


def store_home() -> Path:
    """Where stores are kept: on each node its own. SCP_RAY_STORE names it, else the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("SCP_RAY_STORE") or f"{cache}/scp_ray").absolute()


@contextmanager
def exclusive(source: Source, progress: Progress) -> Iterator[None]:
    """One process of a node at a time."""
    try:
        source.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(source.folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            progress(f"waiting for another process that reads the images of {source.root}", 0, 0)
            lock.acquire()
    except OSError as error:
        raise DataError(f"cannot write {source.folder}: {error}. {REMEDY}") from error
    try:
        yield
    finally:
        lock.release()
