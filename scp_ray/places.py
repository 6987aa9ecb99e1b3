"""Where files lie: on a disk of this machine or on an object store. Each file is complete or absent."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, TypeAlias, cast

from scp_ray import disk
from scp_ray.errors import LedgerError, ScpError
from scp_ray.remote import RemotePath, file_system

AnyPath: TypeAlias = Path | RemotePath


def any_path(text: str | AnyPath) -> AnyPath:
    """A path of this machine, or what a URI names. Raises LedgerError for a URI that cannot be used."""
    if isinstance(text, RemotePath):
        return text
    protocol, mark, rest = str(text).partition("://")
    if not mark:
        if re.match(r"[a-z][a-z0-9]+:/", str(text)):
            raise LedgerError(f"{text}: a URI has two slashes after its colon; pathlib drops one: hand over a string.")
        return Path(text)
    if protocol == "file":
        return Path(rest)
    if "@" in rest:
        raise LedgerError(
            f"{protocol}://...@{rest.rpartition('@')[2].partition('?')[0]}: a URI with a user or a password in it is "
            "refused, since it is printed and stored; so is any other @. Give credentials by the environment: for "
            "s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        )
    parts = rest.strip("/").split("/")
    if not all(parts) or {".", ".."} & {*parts} or re.search(r"[*?\[\]#]|::", rest):
        raise LedgerError(f"{protocol}://{rest.partition('?')[0]} is no folder: write {protocol}://bucket/prefix.")
    file_system(protocol)
    return RemotePath(protocol, "/".join(parts))


def replacing(path: AnyPath, error: type[ScpError], remedy: str) -> AbstractContextManager[BinaryIO]:
    """A file to write that takes the place of ``path`` in one step. Raises ``error``, ending in ``remedy``."""
    if isinstance(path, Path):
        return disk.replacing(path, error, remedy)
    return _putting(path, error, remedy)


@contextmanager
def _putting(path: RemotePath, error: type[ScpError], remedy: str) -> Iterator[BinaryIO]:
    """``disk.replacing`` for an object store: the file lies on this machine until it is complete."""
    try:
        with NamedTemporaryFile(prefix="scp_ray-") as file:
            yield cast(BinaryIO, file)
            file.flush()
            path.put(Path(file.name))
    except OSError as refused:
        raise error(f"cannot write {path}: {refused}. {remedy}") from refused


def remove_tree(folder: AnyPath) -> None:
    """Delete a folder and all that lies in it; it need not be there."""
    if isinstance(folder, RemotePath):
        folder.remove_tree()
    elif folder.exists():
        shutil.rmtree(folder)
