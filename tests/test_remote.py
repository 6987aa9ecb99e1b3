"""Paths on an object store, against an S3-compatible server of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import fsspec
import pytest
from stores import S3, files_below

from scp_ray import remote
from scp_ray.errors import LedgerError, StoreError
from scp_ray.ledger.files import read_json, write_json
from scp_ray.places import any_path, remove_tree, replacing
from scp_ray.remote import RemotePath

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(s3: S3) -> RemotePath:
    return s3.folder()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a/b/c.parquet", "bucket/x.y.z", "bucket/.hidden"])
def test_names_are_pathlibs(name: str) -> None:
    mine, theirs = RemotePath("s3", name), PurePosixPath(name)
    assert (mine.name, mine.stem) == (theirs.name, theirs.stem)
    assert str(mine.parent) == f"s3://{theirs.parent}"
    assert str(mine.with_suffix(".json")) == f"s3://{theirs.with_suffix('.json')}"
    assert str(mine / "more") == f"s3://{theirs / 'more'}"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("results/a", Path("results/a")),
        (Path("results"), Path("results")),
        ("file:///tmp/results", Path("/tmp/results")),
        ("s3://bucket/a/b/", RemotePath("s3", "bucket/a/b")),
        ("s3://bucket", RemotePath("s3", "bucket")),
        ("memory://bucket/a", RemotePath("memory", "bucket/a")),
    ],
)
def test_what_is_written_names_a_place(text: str | Path, path: object) -> None:
    assert any_path(text) == path
    assert any_path(any_path(text)) == path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://", "no folder"),
        ("s3://bucket//a", "no folder"),
        ("s3://bucket/../other", "no folder"),
        ("s3://bucket/a?region=x", "no folder"),
        ("s3://bucket/a*", "no folder"),
        ("simplecache::s3://bucket/a", "simplecache::s3:// is not known"),
        ("s4://bucket/a", "s4:// is not known"),
        ("s3:/bucket/a", "two slashes"),
        (Path("s3://bucket/a"), "two slashes"),
    ],
)
def test_what_names_no_place_is_refused(text: str | Path, words: str) -> None:
    with pytest.raises(LedgerError, match=words):
        any_path(text)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIA:se/cr3t@bucket/a",
        "s3://AKIA:se/cr3t@bucket",
        "s3://bucket/a?secret=se/cr3t",
        "gs://se/cr3t@b/a?x=cr3t",
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(LedgerError) as caught:
        any_path(uri)
    assert "cr3t" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


def test_a_missing_package_is_named_with_the_command_that_brings_it() -> None:
    code = """
import sys
sys.modules["s3fs"] = None
from scp_ray.cli.main import main
sys.exit(main(["status", "s3://bucket/a"]))
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "s3:// needs a package that is not here" in ended.stderr
    assert "pip install 'scp_ray[s3]'" in ended.stderr


# -- reading and writing ----------------------------------------------------------------------------------------------


def write(path: RemotePath, content: bytes) -> None:
    with replacing(path, LedgerError, "") as file:
        file.write(content)


def test_objects_are_written_found_and_deleted(folder: RemotePath) -> None:
    assert not folder.exists()
    for name in ("rounds/b.parquet", "rounds/a.parquet", "rounds/deep/c.parquet", "sweep.json"):
        write(folder / name, name.encode())
    assert folder.exists() and not folder.is_file()
    assert (folder / "sweep.json").is_file() and not (folder / "sweep").exists()
    assert (folder / "rounds/a.parquet").read_text() == "rounds/a.parquet"
    assert folder.glob("rounds/*.parquet") == [folder / "rounds" / "a.parquet", folder / "rounds" / "b.parquet"]
    assert [path.name for path in folder.iterdir()] == ["rounds", "sweep.json"]
    (folder / "sweep.json").unlink()
    (folder / "sweep.json").unlink(missing_ok=True)
    remove_tree(folder / "rounds" / "deep")
    remove_tree(folder / "rounds" / "deep")
    assert files_below(folder) == {"rounds/a.parquet", "rounds/b.parquet"}
    with pytest.raises(FileNotFoundError):
        (folder / "sweep.json").read_bytes()


def test_what_another_process_writes_is_seen_at_once(folder: RemotePath) -> None:
    """No listing and no answer is kept: fsspec would, unless told otherwise."""
    write(folder / "rounds" / "a", b"1")
    assert [path.name for path in folder.glob("rounds/*")] == ["a"]
    assert [path.name for path in (folder / "rounds").iterdir()] == ["a"]
    version = (folder / "rounds" / "a").version()
    code = f"""
from scp_ray.places import any_path
rounds = any_path({str(folder)!r}) / "rounds"
assert rounds.__truediv__("b").create(b"2")
assert (rounds / "a").exchange((rounds / "a").version(), b"11")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert [path.name for path in folder.glob("rounds/*")] == ["a", "b"]
    assert (folder / "rounds" / "b").exists()
    assert (folder / "rounds" / "a").version() != version
    assert (folder / "rounds" / "a").read_bytes() == b"11"


@pytest.mark.slow
def test_an_object_of_many_parts_arrives_whole_or_not_at_all(s3: S3, folder: RemotePath, impatient: None) -> None:
    """Above 100 MB it goes in parts; where the second one is refused the old object stays."""
    path, content = folder / "a.state", os.urandom(1 << 20) * 110
    write(path, b"old")
    with s3.trouble(status=403, methods=["PUT"], match="a.state"), pytest.raises(LedgerError, match="Forbidden"):
        write(path, content)
    assert path.read_bytes() == b"old"
    write(path, content)
    assert path.read_bytes() == content


def test_a_writer_that_fails_leaves_the_old_object(folder: RemotePath) -> None:
    write(folder / "a", b"old")
    with pytest.raises(ZeroDivisionError), replacing(folder / "a", LedgerError, "") as file:
        file.write(b"half")
        _ = 1 / 0
    assert (folder / "a").read_bytes() == b"old"
    assert files_below(folder) == {"a"}


def test_a_bucket_that_is_not_there_is_named_with_what_to_do(s3: S3) -> None:
    path = any_path("s3://no-such-bucket/sweeps")
    assert path.glob("*") == [] and not path.exists()
    with pytest.raises(LedgerError, match=r"cannot write s3://no-such-bucket/sweeps/a: .*bucket.*choose another --out"):
        write_json(path / "a", {})
    with pytest.raises(LedgerError, match="cannot read s3://no-such-bucket/sweeps/a"):
        read_json(path / "a")


def test_the_end_of_an_object(place: RemotePath) -> None:
    write(place, bytes(range(200)))
    assert place.tail(10) == bytes(range(190, 200))
    assert place.tail(200) == place.tail(10_000) == bytes(range(200))
    write(place, b"")
    assert place.tail(10) == b""


# -- trouble ----------------------------------------------------------------------------------------------------------

ASKING: dict[str, Callable[[RemotePath], object]] = {
    "exists": RemotePath.exists,
    "read": RemotePath.read_bytes,
    "tail": lambda path: path.tail(2),
    "version": RemotePath.version,
    "glob": lambda path: path.parent.glob("*"),
    "write": lambda path: write(path, b"new"),
    "exchange": lambda path: path.exchange(path.version(), b"new"),
    "create": lambda path: (path / "new").create(b""),
    "unlink": RemotePath.unlink,
    "remove_tree": lambda path: path.parent.remove_tree(),
}


@pytest.mark.parametrize(
    ("ask", "status"), [*((ask, 503) for ask in ASKING), ("read", 500), ("write", 500), ("read", 0), ("write", 0)]
)
def test_trouble_that_passes_is_outlived(s3: S3, folder: RemotePath, ask: str, status: int) -> None:
    write(folder / "a", b"old")
    with s3.trouble(status=status, times=2):
        ASKING[ask](folder / "a")


@pytest.mark.parametrize(("ask", "status"), [*((ask, 403) for ask in ASKING), ("read", 503), ("write", 503)])
def test_trouble_that_lasts_is_a_ledger_error(
    s3: S3, folder: RemotePath, impatient: None, ask: str, status: int
) -> None:
    write(folder / "a", b"old")
    with s3.trouble(status=status), pytest.raises(LedgerError, match=str(folder)):
        ASKING[ask](folder / "a")
    assert (folder / "a").read_bytes() == b"old"


def test_an_endpoints_user_is_not_repeated() -> None:
    """Neither in the error nor in its traceback, which a failure's note keeps."""

    def refuse(files: object) -> None:
        raise PermissionError('Could not connect to the endpoint URL: "http://alice:s3cr3t@127.0.0.1:1/bucket"')

    with pytest.raises(StoreError) as caught:
        RemotePath("memory", "bucket/a")._ask(refuse)
    assert str(caught.value).endswith('the endpoint URL: "http://***@127.0.0.1:1/bucket"')
    assert "alice" not in "".join(traceback.format_exception(caught.value))


# -- on condition -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "memory"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RemotePath:
    """On S3, and on a store that cannot replace on condition."""
    monkeypatch.setattr(remote, "SETTLE_S", 0.2)
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return RemotePath("memory", "bucket/driver.json")
    return request.getfixturevalue("s3").folder() / "driver.json"


def test_what_is_there_is_not_created_again(place: RemotePath) -> None:
    version = place.create(b"first")
    assert version == place.version()
    assert place.create(b"second") is None
    assert place.read_bytes() == b"first"


def test_only_the_version_that_was_read_is_replaced(place: RemotePath) -> None:
    first = place.create(b"first")
    assert first is not None
    second = place.exchange(first, b"second")
    assert second == place.version() != first
    assert place.exchange(first, b"third") is None
    assert place.read_bytes() == b"second"
    place.unlink()
    assert place.exchange(str(second), b"fourth") is None
    assert not place.exists()


def at_once(count: int, do: Callable[[int], str | None]) -> int:
    """How many of so many threads got what they wanted."""
    gate = threading.Barrier(count)

    def wait_and_do(number: int) -> str | None:
        gate.wait()
        return do(number)

    with ThreadPoolExecutor(count) as pool:
        return sum(version is not None for version in pool.map(wait_and_do, range(count)))


def test_of_many_that_create_one_does(s3: S3, folder: RemotePath) -> None:
    for attempt in range(5):
        path = folder / str(attempt)
        assert at_once(8, lambda number, path=path: path.create(str(number).encode())) == 1


def test_of_many_that_replace_one_does(place: RemotePath) -> None:
    for attempt in range(3):
        path = place.parent / str(attempt)
        version = path.create(b"dead") or ""
        assert at_once(8, lambda number, path=path, old=version: path.exchange(old, str(number).encode())) == 1


def test_a_lost_answer_is_not_taken_for_a_refusal(s3: S3, folder: RemotePath) -> None:
    """The object was put, the connection cut, and the second try finds it there: it is our own."""
    with s3.trouble(status=0, after=True, methods=["PUT"], times=1):
        version = folder.create(b"mine")
    assert version == folder.version()
    with s3.trouble(status=0, after=True, methods=["PUT"], times=1):
        assert folder.exchange(version, b"mine again") == folder.version() != version


def test_a_store_error_is_an_errors_and_a_disks() -> None:
    assert issubclass(StoreError, LedgerError) and issubclass(StoreError, OSError)
    assert StoreError("x").exit_code == 2 and str(StoreError("x")) == "x"
