"""What is in use while a sweep runs lies on this machine; copies of the database go to DIR."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stores import S3
from waiting import wait_for

from scp_ray import remote
from scp_ray.errors import LedgerError
from scp_ray.ledger import Ledger, live
from scp_ray.ledger.files import write_json
from scp_ray.ledger.live import LiveDatabase, live_path, on_network
from scp_ray.places import AnyPath
from scp_ray.tracking.copied import Copied, stand_in, with_copies

MOUNTINFO = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
30 22 0:40 / /home rw shared:1 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/me/disk rw - xfs /dev/sdb rw
32 22 0:42 / /my\040data rw - lustre x@tcp:/data rw
33 22 0:43 / /bucket rw - fuse.mount-s3 mountpoint rw
34 22 0:44 / /covered rw - cifs //server/x rw
35 34 0:45 / /covered rw - tmpfs tmpfs rw
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCP_RAY_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO.lstrip())
    monkeypatch.setattr(live, "MOUNTS", tmp_path / "mountinfo")


@pytest.mark.parametrize(
    ("folder", "network"),
    [
        ("/srv/results", False),
        ("/home/me/results", True),
        ("/home/me/disk/results", False),
        ("/my data/results", True),
        ("/bucket", True),
        ("/covered/results", False),
        ("/homes", False),
    ],
)
def test_network_mounts_are_told_from_disks(mounts: None, folder: str, network: bool) -> None:
    assert on_network(Path(folder)) is network


def test_this_machine_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_network(tmp_path) is False
    monkeypatch.setattr(live, "MOUNTS", tmp_path / "none")
    assert on_network(Path("/home")) is False


def test_a_disk_keeps_its_own_files(mounts: None, tmp_path: Path, scratch: Path) -> None:
    assert live_path(tmp_path / "a", "logs", "tune") == tmp_path / "a" / "logs" / "tune"
    assert not scratch.exists()


def test_elsewhere_each_sweep_has_its_scratch(mounts: None, scratch: Path) -> None:
    roots: list[AnyPath] = [Path("/home/me/a"), Path("/home/you/a"), remote.RemotePath("s3", "bucket/a")]
    paths = {live_path(root, "mlflow.db") for root in roots}
    assert len(paths) == 3
    assert all(path.parent.parent == scratch and path.parent.is_dir() for path in paths)
    assert live_path(roots[2], "mlflow.db") in paths, "the same each time"


def test_a_scratch_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    monkeypatch.setattr(live.os, "getuid", lambda: 12345)
    with pytest.raises(LedgerError, match=r"not yours.*SCP_RAY_SCRATCH"):
        live_path(remote.RemotePath("s3", "bucket/a"), "mlflow.db")


def put(database: Path, number: int) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("create table if not exists numbers (number)")
        connection.execute("insert into numbers values (?)", (number,))


def numbers(content: bytes) -> list[int]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        return [row[0] for row in connection.execute("select number from numbers")]


@pytest.fixture
def ledger(s3: S3) -> Ledger:
    return Ledger(s3.folder())


def test_a_copy_follows_each_change_and_another_machine_goes_on_with_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, target = LiveDatabase(ledger, "mlflow.db"), ledger.root / "mlflow.db"
    here.open()
    put(here.path, 1)
    here.changed()
    wait_for(target.exists, within_s=10)
    put(here.path, 2)
    here.close()
    assert numbers(target.read_bytes()) == [1, 2]
    monkeypatch.setenv("SCP_RAY_SCRATCH", str(tmp_path / "another machine"))
    there = LiveDatabase(ledger, "mlflow.db")
    there.open()
    assert there.path != here.path
    put(there.path, 3)
    there.close()
    assert numbers(target.read_bytes()) == [1, 2, 3]


def test_what_lies_in_scratch_gives_way_to_the_copy(ledger: Ledger) -> None:
    first = LiveDatabase(ledger, "mlflow.db")
    first.open()
    put(first.path, 1)
    first.close()
    put(first.path, 99)  # by a driver that died before it could copy
    again = LiveDatabase(ledger, "mlflow.db")
    again.open()
    again.close()
    assert numbers(again.path.read_bytes()) == [1]


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_copy_is_begun_anew(ledger: Ledger, content: bytes) -> None:
    (ledger.root / "mlflow.db").create(content)
    database = LiveDatabase(ledger, "mlflow.db")
    database.open()
    put(database.path, 1)
    database.close()
    assert numbers((ledger.root / "mlflow.db").read_bytes()) == [1]


def test_a_slow_store_holds_nobody_up_and_copies_are_not_piled_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty changes while one copy is under way: that one, and one more of all that changed meanwhile."""
    released, written, started = threading.Event(), [], threading.Semaphore(0)

    def slow(path: AnyPath, content: bytes) -> None:
        started.release()
        assert released.wait(60), "whoever says that something has changed is held up by the copy"
        written.append(content)

    monkeypatch.setattr(live, "write_bytes", slow)
    database = LiveDatabase(ledger, "mlflow.db")
    database.open()
    put(database.path, 0)
    database.changed()
    assert started.acquire(timeout=60)
    for number in range(1, 50):
        put(database.path, number)
        database.changed()
    released.set()
    database.close()
    assert [len(numbers(content)) for content in written[:2]] == [1, 50]
    assert len(written) <= 3


def test_a_copy_is_made_after_every_row(ledger: Ledger) -> None:
    class Table:
        """A tracker that keeps what it is told in a database."""

        def open(self, sweep: dict[str, Any], *, running: bool) -> None:
            put(database.path, 0)

        def show(self, job_id: str, rows: Any, failure: Any = None, *, running: bool) -> bool:
            put(database.path, -1 if failure else len(rows))
            return running

        def close(self) -> None:
            put(database.path, -2)

    database, target = LiveDatabase(ledger, "mlflow.db"), ledger.root / "mlflow.db"
    sink = Copied(Table(), database)
    sink.open({}, running=True)
    wait_for(lambda: target.exists() and numbers(target.read_bytes()) == [0], within_s=10)
    assert sink.show("one", [{}], running=True)
    wait_for(lambda: numbers(target.read_bytes()) == [0, 1], within_s=10)
    assert not sink.show("two", [], {"reason": "planted"}, running=False)
    wait_for(lambda: numbers(target.read_bytes()) == [0, 1, -1], within_s=10)
    sink.close()
    assert numbers(target.read_bytes()) == [0, 1, -1, -2]


def test_a_store_out_of_order_is_told_at_the_end_and_costs_nothing_else(
    s3: S3, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)
    database = LiveDatabase(ledger, "mlflow.db")
    database.open()
    put(database.path, 1)
    before = len(s3.requests())
    with s3.trouble(status=503, methods=["PUT"]):
        database.changed()
        wait_for(lambda: len(s3.requests()) > before, within_s=10)
    database.close()
    assert numbers((ledger.root / "mlflow.db").read_bytes()) == [1]
    assert capsys.readouterr().err == "", "the last copy arrived"
    database = LiveDatabase(ledger, "mlflow.db")
    database.open()
    with s3.trouble(status=503, methods=["PUT"]):
        database.close()
    said = capsys.readouterr().err
    assert said.startswith(f"{ledger.root}/mlflow.db is behind: cannot write")
    assert f"scp-ray track {ledger.root}" in said


def test_a_driver_that_lost_the_sweep_copies_nothing(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"host": "elsewhere", "pid": 1, "token": "theirs", "heartbeat": time.time()}
    write_json(ledger.driver, content)
    database = LiveDatabase(Ledger(ledger.root, token="mine"), "mlflow.db")
    database.open()
    put(database.path, 1)
    database.close()
    assert not (ledger.root / "mlflow.db").exists()
    assert "no longer holds" in capsys.readouterr().err


def test_only_a_database_that_stands_in_for_dirs_is_copied(ledger: Ledger, tmp_path: Path) -> None:
    class Deaf:
        def open(self, sweep: object, *, running: bool) -> None: ...
        def show(self, job_id: str, rows: object, failure: object = None, *, running: bool) -> bool: ...
        def close(self) -> None: ...

    sink = Deaf()
    local = Ledger(tmp_path)
    assert stand_in(f"sqlite:///{tmp_path / 'mlflow.db'}", local) is None
    assert stand_in("http://127.0.0.1:5000", ledger) is None
    assert stand_in(f"sqlite:///{tmp_path / 'mine.db'}", ledger) is None
    assert with_copies(sink, None) is sink
    database = stand_in(f"sqlite:///{live_path(ledger.root, 'mlflow.db')}", ledger)
    assert database is not None and isinstance(with_copies(sink, database), Copied)
