"""A Ray of our own: nobody else reads its token, and it listens on loopback alone."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._private import ray_constants

from scp_ray.errors import ResourceError


def guard_token(*, create: bool) -> None:
    """See to it that Ray's token file, where one is used, can be read by this user alone (mode 0600).

    Ray makes the file with the mode that the umask leaves, 0644 on most machines, and whoever reads it may run code
    on the cluster. A token in the environment (RAY_AUTH_TOKEN) has no file.

    Args:
        create: make a token where there is none, before Ray does.

    Raises ResourceError where the file can be neither made nor closed to others.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    try:
        if create and not named and not path.exists():
            _write_new(path)
        if path.exists():
            _close_to_others(path)
    except OSError as error:
        raise ResourceError(
            f"Ray's token file {path} cannot be made readable by you alone: {error}. Make it a file of yours with "
            "mode 0600, or name another one in RAY_AUTH_TOKEN_PATH."
        ) from error


def _write_new(path: Path) -> None:
    """Made beside and linked into place: another process sees a whole token or none, and the first one stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".auth_token.")  # 0600 whatever the umask
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))  # as long as Ray's own
        os.link(beside, path)
    except FileExistsError:
        return
    finally:
        os.unlink(beside)


def _close_to_others(path: Path) -> None:
    found = path.stat()
    others = stat.S_IMODE(found.st_mode) & 0o077
    if others and found.st_uid == os.geteuid():  # a secret that a scheduler mounts belongs to it
        path.chmod(0o600)


@contextmanager
def loopback_only() -> Iterator[None]:
    """A Ray that is started inside the block listens on 127.0.0.1; otherwise its servers listen on every address.

    Ray takes 127.0.0.1 as its node's address only where clusters of several machines are switched off, which on
    Linux is a constant: ``ray.init(_node_ip_address="127.0.0.1")`` is turned back into the outer address.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
