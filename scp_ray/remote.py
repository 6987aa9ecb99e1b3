"""Paths on an object store: s3://, gs:// and whatever else fsspec opens, with those manners of pathlib that are needed.

An object is complete or absent, since it is put in one step. What is not there is a FileNotFoundError, whatever else
a store's library raises a StoreError; what may pass (a lost connection, 500, 503) is tried again for PATIENCE_S first.
Nothing is cached: what another machine has written is seen at once. Credentials and endpoint are read by the library
itself, from the environment.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from scp_ray.errors import LedgerError, StoreError

PATIENCE_S = 30.0
SETTLE_S = 2.0  # where a store has no conditional replacing: how long a rival's simultaneous write may take
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

_LASTING = (PermissionError, IsADirectoryError, NotADirectoryError)
_LASTING_NUMBERS = {errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.ENOSPC}
# lost connections and garbled answers, by the names that botocore, aiohttp and gcsfs give them
_PASSING_FAMILIES = {"HTTPClientError", "ClientError", "HttpError", "IncompleteRead", "ResponseParserError"}
_USER = re.compile(r"(?<=://)[^\s'\"]*@")  # an endpoint's, in a library's words
_EXTRAS = {"s3": "s3", "s3a": "s3"}  # protocol -> extra of this package

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class RemotePath:
    """``protocol://path``. Methods are pathlib's, or say what they do; those that ask the store raise StoreError."""

    protocol: str
    path: str  # bucket/prefix/name, without a slash at either end

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.protocol, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return PurePosixPath(self.path).stem

    @property
    def parent(self) -> RemotePath:
        """Without the last part."""
        return RemotePath(self.protocol, str(PurePosixPath(self.path).parent))

    def with_suffix(self, suffix: str) -> RemotePath:
        """With another ending, or one more."""
        return RemotePath(self.protocol, str(PurePosixPath(self.path).with_suffix(suffix)))

    def absolute(self) -> RemotePath:
        """Itself."""
        return self

    def as_uri(self) -> str:
        """As it is written."""
        return str(self)

    # -- reading ---------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether an object of that name is there, or one below it."""
        return self._info() is not None

    def is_file(self) -> bool:
        """Whether an object of that name is there."""
        info = self._info()
        return info is not None and info["type"] == "file"

    def version(self) -> str:
        """What changes whenever the object does: S3's ETag or the like."""
        info = self._ask(lambda files: files.info(str(self)))
        return str(info.get("ETag") or self._ask(lambda files: files.checksum(str(self))))

    def read_bytes(self) -> bytes:
        """The whole object."""
        content: bytes = self._ask(lambda files: files.cat_file(str(self)))
        return content

    def tail(self, size: int) -> bytes:
        """Its last ``size`` bytes; all of it, where it has no more."""
        whole = int(self._ask(lambda files: files.info(str(self)))["size"])
        if whole <= size:
            return self.read_bytes()
        content: bytes = self._ask(lambda files: files.cat_file(str(self), start=whole - size, end=whole))
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole object, decoded."""
        return self.read_bytes().decode(encoding)

    def glob(self, pattern: str) -> list[RemotePath]:
        """The objects that match, sorted; without ``**``."""
        try:
            names = self._ask(lambda files: files.glob(f"{self}/{pattern}"))
        except FileNotFoundError:  # no such bucket
            return []
        return sorted(RemotePath(self.protocol, name.lstrip("/")) for name in names)

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies directly below, sorted."""
        yield from self.glob("*")

    # -- writing ---------------------------------------------------------------------------------------------------

    def put(self, file: Path) -> None:
        """Put a file of this machine there, in one step: its parts, where it is large, show when they are complete."""
        self._ask(lambda files: files.put_file(str(file), str(self)))

    def create(self, content: bytes) -> str | None:
        """Put an object where none is; returns its version, or None where there is one."""
        try:
            answer = self._ask(lambda files: files.pipe_file(str(self), content, mode="create"))
        except FileExistsError:
            return self._version_of(content)
        return _etag(answer) or self._version_of(content)

    def exchange(self, version: str, content: bytes) -> str | None:
        """Replace the object if it is still of that version; returns its new version, or None where it is not.

        On S3 the store itself compares and replaces in one step. Elsewhere the object is compared, written and, after
        SETTLE_S, read back: of two that write within that time the later one is told that it has won.
        """
        try:
            if self.protocol in ("s3", "s3a"):
                answer = self._ask(lambda files: files.pipe_file(str(self), content, IfMatch=version))
                return _etag(answer) or self._version_of(content)
            if self.version() != version:
                return None
        except FileNotFoundError:
            return None
        except StoreError as refused:
            if not _unequal(refused):
                raise
            return self._version_of(content)
        self._ask(lambda files: files.pipe_file(str(self), content))
        time.sleep(SETTLE_S)
        return self._version_of(content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object. S3 does not say whether there was one."""
        try:
            self._ask(lambda files: files.rm_file(str(self)))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Delete everything below; nothing may be there."""
        if self.exists():
            self._ask(lambda files: files.rm(str(self), recursive=True))

    def _version_of(self, content: bytes) -> str | None:
        """The version, if that very content is there: a try of ours may have arrived though its answer was lost."""
        try:
            version = self.version()  # first: it may then be older than the content, never newer
            return version if self.read_bytes() == content else None
        except FileNotFoundError:
            return None

    def _info(self) -> dict[str, Any] | None:
        try:
            info: dict[str, Any] = self._ask(lambda files: files.info(str(self)))
        except FileNotFoundError:
            return None
        return info

    def _ask(self, do: Callable[[Any], T]) -> T:
        """Call the store, again where the fault may pass. Raises StoreError, FileNotFoundError, FileExistsError."""
        files, end, pause = file_system(self.protocol), time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while True:
            try:
                return do(files)
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:  # every store's library has errors of its own
                if not _may_pass(error) or time.monotonic() + pause > end:
                    said = f"{type(error).__name__}: {error}"
                    shown = _USER.sub("***@", said)
                    # a traceback would repeat what is hidden
                    raise StoreError(f"the object store says of {self}: {shown}") from error if shown == said else None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, _LASTING) and error.errno not in _LASTING_NUMBERS
    return bool(_PASSING_FAMILIES.intersection(kind.__name__ for kind in type(error).__mro__))


def _etag(answer: Any) -> str | None:
    """The version that S3 tells with its answer to a PUT."""
    return answer.get("ETag") if isinstance(answer, dict) else None


def _unequal(refused: StoreError) -> bool:
    """Whether S3 found another version than the one that was to be replaced."""
    cause: BaseException | None = refused
    while cause is not None and not hasattr(cause, "response"):
        cause = cause.__cause__
    answer: dict[str, Any] = getattr(cause, "response", {})
    return bool(answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412)


@lru_cache
def file_system(protocol: str) -> Any:
    """fsspec's file system. Raises LedgerError where it knows none, or the package behind it is missing."""
    import fsspec

    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f" Install it by: pip install 'scp_ray[{extra}]'" if extra else ""
        raise LedgerError(f"{protocol}:// needs a package that is not here: {error}.{remedy}") from error
    except ValueError as error:
        raise LedgerError(f"{protocol}:// is not known: {error}. Use a path, s3://bucket/prefix or gs://...") from error
