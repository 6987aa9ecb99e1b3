"""A database that is in use while a sweep runs lies on a disk of this machine.

That is DIR itself, unless DIR is on an object store or a network mount, whose locks no database can rely on. Then it
is a scratch folder of this user, and copies go to DIR. Whatever lies there can be made anew from the ledger.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import stat
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

from scp_ray.errors import LedgerError
from scp_ray.ledger.files import write_bytes
from scp_ray.ledger.records import Records
from scp_ray.places import AnyPath

MOUNTS = Path("/proc/self/mountinfo")
# kinds of mounts behind which another machine is; what is mounted from user space (fuse.) may be anything
_NETWORK = {"afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "pvfs2", "smb3", "smbfs"}


def live_path(root: AnyPath, *parts: str) -> Path:
    """DIR/<parts>, or what stands in for it on this machine's disk; the scratch folder is made where it is missing."""
    if isinstance(root, Path) and not on_network(root):
        return root.joinpath(*parts)
    return _scratch(root).joinpath(*parts)


def on_network(folder: Path) -> bool:
    """Whether a folder, which need not be there yet, is on a network mount. False where the system does not say."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # no Linux
        return False
    mounted: dict[Path, str] = {}
    for line in lines:
        fields, _, kind = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields.split()[4])  # a space is \040
        mounted[Path(point)] = kind.split()[0]  # of two on one point the later hides the earlier
    real = folder.resolve()
    kind = next((mounted[path] for path in (real, *real.parents) if path in mounted), "")
    return kind in _NETWORK or kind.startswith("fuse.")


def _scratch(root: AnyPath) -> Path:
    """This user's folder for that sweep. Raises LedgerError where it is somebody else's."""
    place = os.environ.get("SCP_RAY_SCRATCH")
    mine = Path(place).absolute() if place else Path(tempfile.gettempdir()) / f"scp_ray-{os.getuid()}"
    try:
        mine.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = mine.lstat() if not place else mine.stat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise PermissionError("it is not yours")
        folder = mine / f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"cannot use {mine} for what is in use while a sweep runs: {error}. Name a folder on a disk of this "
            "machine by the environment variable SCP_RAY_SCRATCH."
        ) from error
    return folder


class LiveDatabase:
    """An SQLite file of a sweep that lies elsewhere than DIR. A thread copies it to DIR, never more than is needed.

    One for as long as the file is written to, by whomever: what is not copied yet is nowhere else.
    """

    def __init__(self, ledger: Records, name: str) -> None:
        self.path = live_path(ledger.root, name)
        self._ledger, self._target = ledger, ledger.root / name
        self._changed, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="scp_ray copies", daemon=True)
        self._behind = ""  # why DIR's copy is not up to date

    def open(self) -> None:
        """Begin with DIR's copy, which another machine may have made; without a whole one, with nothing.

        Once begun it goes on with what it has.
        """
        if self._thread.is_alive():
            return
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        if self._target.exists():
            self.path.write_bytes(self._target.read_bytes())
            if not _is_whole(self.path):
                self.path.unlink()
        self._thread.start()

    def changed(self) -> None:
        """A copy is due. Returns at once; what changes while a copy is made goes along with the next."""
        self._changed.set()

    def close(self) -> None:
        """The last copy; says so on stderr where DIR's is left behind."""
        self._end.set()
        self._changed.set()
        self._thread.join()
        if self._behind:
            print(
                f"{self._target} is behind: {self._behind} Make it whole: scp-ray track {self._ledger.root}",
                file=sys.stderr,
            )

    def _work(self) -> None:
        ending = False
        while not ending:
            self._changed.wait()
            self._changed.clear()
            ending = self._end.is_set()
            try:
                self._copy()
                self._behind = ""
            except (LedgerError, sqlite3.Error) as error:
                self._behind = str(error)  # the next copy may arrive

    def _copy(self) -> None:
        if not self.path.exists():
            return
        with closing(sqlite3.connect(self.path)) as live, closing(sqlite3.connect(":memory:")) as still:
            live.backup(still)  # a transaction is in it whole or not at all
            content = still.serialize()
        self._ledger.check_lease()
        write_bytes(self._target, content)


def _is_whole(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as database:
            return bool(database.execute("pragma quick_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False
