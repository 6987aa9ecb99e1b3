"""Files that are complete or absent."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from scp_ray.disk import replacing
from scp_ray.errors import DataError, LedgerError, ScpError
from scp_ray.ledger.files import clear_half_written

REMEDY = "Free space."


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path, DataError, REMEDY) as file:
        file.write(b"new and ")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"longer")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new and longer"
    assert names(tmp_path) == ["file"]


def test_a_shorter_file_keeps_nothing_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a long old content")
    with replacing(path, DataError, REMEDY) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_who_has_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        with replacing(path, DataError, REMEDY) as file:
            file.write(b"new")
        assert reader.read() == b"old"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    with replacing(tmp_path / "a" / "b" / "file", DataError, REMEDY) as file:
        file.write(b"new")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("raised", [ValueError("no"), DataError("no"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("old", [b"old", None], ids=["over an old file", "where none was"])
def test_what_the_writer_raises_goes_on_and_leaves_the_old_file(
    tmp_path: Path, raised: BaseException, old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(type(raised)) as caught, replacing(path, LedgerError, REMEDY) as file:
        file.write(b"half")
        raise raised
    assert caught.value is raised
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("error", [DataError, LedgerError])
def test_what_the_disk_refuses_names_the_file_and_the_remedy(tmp_path: Path, error: type[ScpError]) -> None:
    path, full = tmp_path / "file", OSError(28, "No space left on device")
    path.write_bytes(b"old")
    with pytest.raises(error) as caught, replacing(path, error, REMEDY) as file:
        file.write(b"half")
        raise full
    assert type(caught.value) is error
    assert str(caught.value) == f"cannot write {path}: [Errno 28] No space left on device. {REMEDY}"
    assert caught.value.__cause__ is full
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    with (
        pytest.raises(DataError, match=r"taken/file: .*Free space"),
        replacing(tmp_path / "taken" / "file", DataError, REMEDY) as file,
    ):
        file.write(b"new")
    assert names(tmp_path) == ["taken"]


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(DataError, match="Free space"), replacing(tmp_path / "file", DataError, REMEDY) as file:
        file.write(b"new")
    assert names(tmp_path) == ["file"]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, DataError, REMEDY) as first, replacing(path, DataError, REMEDY) as second:
        first.write(b"first")
        second.write(b"second")
        assert len(names(tmp_path)) == 2
    assert path.read_bytes() == b"first"  # its block ended last
    assert names(tmp_path) == ["file"]


def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen, fsync = tmp_path / "file", [], os.fsync
    path.write_bytes(b"old")

    def watched(handle: int) -> None:
        status = os.fstat(handle)
        seen.append(("folder" if stat.S_ISDIR(status.st_mode) else status.st_size, path.read_bytes()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    with replacing(path, DataError, REMEDY) as file:
        file.write(b"newer")
    assert seen == [(5, b"old"), ("folder", b"newer")]


def test_what_killed_writers_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    left = [".sweep.json.0123abcd", "rounds/.ab12.parquet.deadbeef", "state/x/.a.state.00000000"]
    left += ["bases/b/.model.safetensors.12345678", "state/x/.a.json.1234abcd", ".mlflow.db.1234abcd"]
    ours, theirs = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    old = [f"report/.fate-curves.{kind}.1234abcd" for kind in ("png", "svg", "csv")]
    old += [f".driver.json.new.{ours}", f".driver.json.{ours}", f".probe-{ours}/driver", f".probe-{ours}/node"]
    kept = [
        "sweep.json",
        ".hidden",
        "rounds/ab12.parquet",
        "state/x/a.state",
        ".driver.json.0123456789abcdef",
        "report/.x.svg",
        "report/.table.csv.1234abcd",
        f".driver.json.new.{theirs}",
        f".driver.json.{theirs}",
        f".probe-{theirs}/driver",
    ]
    for name in left + old + kept:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name in [*old, f".probe-{ours}"]:  # without a lease, and 61 s ago
        os.utime(tmp_path / name, times=(time.time() - 61,) * 2)
    clear_half_written(tmp_path)
    assert not (tmp_path / f".probe-{ours}").exists()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_every_refusal_is_an_error_of_ours() -> None:
    assert issubclass(LedgerError, ScpError) and LedgerError.exit_code == 2
