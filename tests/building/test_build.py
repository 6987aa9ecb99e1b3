"""Building a store: what is decoded and when, what cannot be used, where it is kept."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from pictured import (
    LEAD,
    ROW,
    SIZE,
    assert_holds,
    data_set,
    entries,
    line,
    loaded,
    make,
    numbered,
    save,
    write_rows,
)

from scp_ray.data import build as building
from scp_ray.data.pixels import Look
from scp_ray.data.source import Source, store_home
from scp_ray.errors import DataError

# ---- what is decoded, and when ----


def test_the_second_build_decodes_nothing(root: Path, decoded: list[str]) -> None:
    path = data_set(root).build()
    assert sorted(decoded) == [f"i{row:03}" for row in range(12)]
    decoded.clear()
    status = path.stat()
    assert data_set(root).build() == path
    assert_holds(data_set(root), numbered(range(12)))
    assert decoded == []
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_a_changed_picture_is_decoded_anew_and_no_other(root: Path, decoded: list[str]) -> None:
    data = data_set(root)
    sources, identity = data.sources(), data.identity()
    decoded.clear()
    save(root, "i004", 99, "PNG")
    assert data_set(root).identity() == identity
    assert data.sources() != sources
    assert set(decoded) == {"i004"}
    assert_holds(data, numbered(range(12)) | {"i004": 99})
    decoded.clear()
    data.build()
    assert decoded == []


def test_another_length_is_noticed_whatever_the_time(root: Path) -> None:
    data, path = data_set(root), root / "images" / "i004.jpg"
    data.build()
    before = path.stat()
    save(root, "i004", 99, "PNG")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size != before.st_size
    assert_holds(data, numbered(range(12)) | {"i004": 99})


def test_a_touched_picture_changes_nothing(root: Path, decoded: list[str]) -> None:
    data = data_set(root)
    path, identity, sources = data.build(), data.identity(), data.sources()
    content = path.read_bytes()
    decoded.clear()
    os.utime(root / "images" / "i004.jpg", (1, 1))
    assert data.build() == path
    assert decoded == ["i004"]
    assert path.read_bytes() == content
    assert (data.identity(), data.sources()) == (identity, sources)
    decoded.clear()
    data.build()
    assert decoded == []


def test_added_and_removed_rows(root: Path, decoded: list[str]) -> None:
    data = data_set(root)
    twelve = data.build()
    before = twelve.read_bytes()
    save(root, "i012", 12)
    write_rows(root, [line(row) for row in range(2, 13)])
    decoded.clear()
    assert data.build() != twelve
    assert decoded == ["i012"]
    assert_holds(data, numbered(range(2, 13)))
    write_rows(root, [line(row) for row in range(12)])
    decoded.clear()
    assert data.build() == twelve
    assert decoded == []
    assert twelve.read_bytes() == before
    assert_holds(data, numbered(range(12)))


def test_two_rows_that_change_places_keep_their_pictures(root: Path, decoded: list[str]) -> None:
    data_set(root).build()
    decoded.clear()
    write_rows(root, [line(row) for row in reversed(range(12))])
    assert loaded(data_set(root)).splits["val"].id == ("i010", "i006", "i002")
    assert_holds(data_set(root), numbered(range(12)))
    assert decoded == []


def test_two_files_that_change_places_are_noticed(root: Path, decoded: list[str]) -> None:
    data = data_set(root)
    sources = data.sources()
    one, other = (root / "images" / f"{name}.jpg" for name in ("i001", "i002"))
    shutil.move(one, root / "aside")
    shutil.move(other, one)
    shutil.move(root / "aside", other)
    for path in (one, other):
        os.utime(path)  # moved files keep their times, and these were made within one tick of some clocks
    assert data.sources() != sources
    assert_holds(data, numbered(range(12)) | {"i001": 2, "i002": 1})


def test_another_size_is_another_store(root: Path, decoded: list[str]) -> None:
    small, large = data_set(root).build(), data_set(root, image_size=48).build()
    assert small != large and small.parent == large.parent
    assert len(decoded) == 24
    assert_holds(data_set(root, image_size=48), numbered(range(12)))
    assert_holds(data_set(root), numbered(range(12)))


def test_variants_share_their_pixels(root: Path, decoded: list[str]) -> None:
    write_rows(root, [line(row, "" if row in (1, 2) else None) for row in range(12)])
    data_set(root, unknown_group="as_1").build()
    assert len(decoded) == 12
    decoded.clear()
    dealt = {"val_share": 0.3, "test_share": 0.3}
    for options in ({"splits": "seeded"}, {"splits": "seeded", "split_seed": 5}, {"splits": "leak_free"}):
        assert_holds(data_set(root, unknown_group="as_1", **options, **dealt), numbered(range(12)))
    assert_holds(data_set(root), numbered([0, *range(3, 12)]))
    write_rows(root, [line(row).replace(f"L{row},{row % 8},", f"L{row},{(row + 1) % 8},") for row in range(12)])
    assert_holds(data_set(root), numbered(range(12)))
    assert decoded == []
    assert len(list(data_set(root)._source().folder.glob("*.arrow"))) == 6


def test_rows_that_a_store_left_out_are_decoded_when_they_are_wanted(root: Path, decoded: list[str]) -> None:
    write_rows(root, [line(row, "" if row in (1, 2) else None) for row in range(12)])
    assert_holds(data_set(root), numbered([0, *range(3, 12)]))
    decoded.clear()
    assert_holds(data_set(root, unknown_group="as_1"), numbered(range(12)))
    assert decoded == ["i001", "i002"]


def test_asking_for_the_table_needs_no_pixels(root: Path, decoded: list[str]) -> None:
    identity = data_set(root).identity()
    assert len(decoded) == 12
    folder = data_set(root)._source().folder
    assert entries(folder) == {"facts-2.arrow"}
    data_set(root).build()
    assert data_set(root).identity() == identity


def test_reading_all_finds_a_change_that_hides(root: Path, decoded: list[str]) -> None:
    data, path = data_set(root), root / "images" / "i004.jpg"
    data.build()
    before = path.stat()
    save(root, "i004", 99)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    decoded.clear()
    data.build()
    assert decoded == []  # size and time are the old ones
    assert_holds(data, numbered(range(12)))
    data.build(verify=True)
    assert len(decoded) == 12
    assert_holds(data, numbered(range(12)) | {"i004": 99})
    decoded.clear()
    data.build()
    assert decoded == []


def test_reading_all_looks_at_unusable_files_too(root: Path) -> None:
    path = root / "images" / "i004.jpg"
    path.write_bytes(b"x" * path.stat().st_size)
    before = path.stat()
    assert_holds(data_set(root), numbered([0, 1, 2, 3, *range(5, 12)]))
    save(root, "i004", 4)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    data_set(root).build(verify=True)
    assert_holds(data_set(root), numbered(range(12)))


def test_reading_all_of_what_has_not_changed(root: Path) -> None:
    path = data_set(root).build()
    content = path.read_bytes()
    assert data_set(root).build(verify=True) == path
    assert path.read_bytes() == content
    assert entries(path.parent) == {path.name, "facts-2.arrow"}


def test_identity_is_the_table_the_size_and_the_decoding(tmp_path: Path, root: Path) -> None:
    """Not where the files are, nor what they hold."""
    identity = data_set(root).identity()
    assert set(identity) == {"table", "image_size", "decode"}
    assert identity["image_size"] == SIZE
    elsewhere = make(tmp_path / "elsewhere" / "root", 12)
    save(elsewhere, "i003", 77, "PNG")
    assert data_set(elsewhere).identity() == identity
    assert data_set(root, image_size=48).identity() == identity | {"image_size": 48}
    write_rows(elsewhere, [line(row).replace("i003,L3,3", "i003,L3,4") for row in range(12)])
    assert data_set(elsewhere).identity()["table"] != identity["table"]
    assert data_set(elsewhere)._source().folder != data_set(root)._source().folder


def test_damaged_facts_are_found_anew(root: Path, decoded: list[str]) -> None:
    data = data_set(root)
    path = data.build()
    facts = path.with_name("facts-2.arrow")
    content = path.read_bytes()
    for damaged in (facts.read_bytes()[:-100], b"", b"text"):
        facts.unlink()
        facts.write_bytes(damaged)
        decoded.clear()
        assert data.build() == path
        assert len(decoded) == 12
        assert path.read_bytes() == content


# ---- files that cannot be used ----


def test_unusable_files_are_dropped_and_named(root: Path) -> None:
    (root / "images" / "i001.jpg").write_text("no picture")
    (root / "images" / "i002.jpg").unlink()
    whole = save(root, "i003", 3, "JPEG").read_bytes()
    (root / "images" / "i003.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "images" / "i005.jpg").write_bytes(b"")
    data = data_set(root)
    path = data.build()
    assert_holds(data, numbered([0, 4, *range(6, 12)]))
    health = data.health()
    assert set(health.unreadable) == {"i001", "i003", "i005"}
    assert list(health.missing) == ["i002"]
    assert list(health.truncated) == ["i003"]
    assert data.build() == path
    save(root, "i002", 2)  # it comes back
    assert_holds(data, numbered([0, 2, 4, *range(6, 12)]))


def test_without_images_there_is_nothing_to_build(root: Path, home: Path) -> None:
    shutil.rmtree(root / "images")
    with pytest.raises(DataError, match=r"none of the 12 images .* is there; .*images/i0...jpg.*Bring them"):
        data_set(root).build()
    assert list(home.rglob("*.arrow")) == []


def test_images_that_are_all_unreadable_are_said_to_be(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.write_text("no picture")
    with pytest.raises(DataError, match="has no train and no val and no test rows"):
        data_set(root).build()


def test_a_file_that_could_not_be_opened_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "i004.jpg":
            raise OSError(5, "Input/output error")
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        assert_holds(data_set(root), numbered([0, 1, 2, 3, *range(5, 12)]))
    assert_holds(data_set(root), numbered(range(12)))


def test_a_killed_decoding_process_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    root = make(tmp_path / "many", 96)

    def die(*_: object) -> list[Look]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    monkeypatch.setattr(building.joblib, "cpu_count", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(building, "look_at_all", die)
        with pytest.raises(DataError, match=r"was killed; .*memory.*Run the same command again"):
            data_set(root).build()
    assert list(home.rglob("*.arrow")) == []
    assert_holds(data_set(root), numbered(range(96)))


# ---- where it is kept ----


def test_the_place_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCP_RAY_STORE", str(tmp_path / "a"))
    assert store_home() == tmp_path / "a"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCP_RAY_STORE", "b")
    assert store_home() == tmp_path / "b"
    monkeypatch.delenv("SCP_RAY_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert store_home() == tmp_path / "cache" / "scp_ray"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert store_home() == tmp_path / "me" / ".cache" / "scp_ray"


def test_roots_of_one_name_do_not_share(tmp_path: Path, home: Path) -> None:
    folders = {Source(tmp_path / place / "images", ("a",)).folder for place in ("a", "b")}
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {home}


# ---- progress ----


def test_progress_tells_every_stage_to_its_end(tmp_path: Path) -> None:
    root, told = make(tmp_path / "many", 40), []
    path = data_set(root).build(lambda *message: told.append(message))
    reading = [(done, total) for stage, done, total in told if stage == f"reading {root}"]
    assert reading == [(0, 40), (32, 40), (40, 40)]  # 32 at a time
    assert told[-1] == (f"writing {path}", 0, 0)
    assert len(told) == 4
    told.clear()
    save(root, "i004", 99, "PNG")
    data_set(root).build(lambda *message: told.append(message))
    assert [message[1:] for message in told] == [(39, 40), (40, 40), (0, 0)]
    told.clear()
    data_set(root).build(lambda *message: told.append(message))
    assert told == []


def test_pixels_are_on_disk_once_a_build_is_over(root: Path) -> None:
    path = data_set(root).build()
    assert entries(path.parent) == {path.name, "facts-2.arrow"}
    image = torch.cat([split.image for split in loaded(data_set(root)).splits.values()])
    assert 12 * ROW == image.nbytes < path.stat().st_size < 12 * ROW + 3 * LEAD
