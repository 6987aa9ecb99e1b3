"""Building a store: decoded once, gone on with, shared, and never half there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scp_ray.data import build as building
from scp_ray.data import listed
from scp_ray.data.isic2019 import ISIC2019
from scp_ray.data.pixels import Look
from scp_ray.data.source import Source, store_home
from scp_ray.errors import DataError

REPOSITORY = Path(__file__).parents[1]
SIZE = 32
ROW = 3 * SIZE * SIZE
LEAD = 8192  # before the pixels, for a store's header
SPLITS = ("train", "train", "val", "test")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCP_RAY_STORE", str(tmp_path / "stores"))
    return tmp_path / "stores"


def picture(seed: int) -> Image.Image:
    """64 x 64, unlike any other: 8 x 8 random colours, enlarged."""
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(colours).resize((64, 64), Image.Resampling.BICUBIC)


def save(root: Path, name: str, seed: int, format: str = "BMP") -> Path:
    """Files are known by their content; BMP files of one size are equally long."""
    path = root / "images" / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, format=format)
    return path


def line(row: int, sex: str | None = None) -> str:
    return f"i{row:03},L{row},{row % 8},{row % 2 if sex is None else sex},{SPLITS[row % 4]}"


def write_rows(root: Path, lines: Sequence[str]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["image,lesion_id,low,gender,split", *lines]) + "\n"
    (root / "metadata.csv").write_text(text, encoding="utf-8")


def make(root: Path, count: int, format: str = "BMP") -> Path:
    write_rows(root, [line(row) for row in range(count)])
    for row in range(count):
        save(root, f"i{row:03}", row, format)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "root", 12)


def data_set(root: Path, **options: Any) -> ISIC2019:
    return ISIC2019(str(root), **{"image_size": SIZE, **options})


def loaded(data: ISIC2019) -> Any:
    """As another process would load it."""
    listed._load.cache_clear()
    return data.load()


def expected(seed: int, size: int = SIZE) -> list[Any]:
    """The pixels of a 64 x 64 picture, which is not cropped."""
    return np.asarray(picture(seed).resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1).tolist()


def assert_holds(data: ISIC2019, seeds: dict[str, int]) -> None:
    """The data set consists of these ids, and the picture of each has this seed."""
    splits = loaded(data).splits.values()
    pixels = {name: image for split in splits for name, image in zip(split.id, split.image, strict=True)}
    assert sorted(pixels) == sorted(seeds)
    for name, seed in seeds.items():
        assert pixels[name].tolist() == expected(seed, data.image_size)


def numbered(rows: Sequence[int] | range) -> dict[str, int]:
    return {f"i{row:03}": row for row in rows}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that were given to decoding, since the list was last cleared."""
    files: list[str] = []
    looks = building._looks

    def watched(root: Path, given: Sequence[str], *more: Any) -> Any:
        files.extend(Path(file).stem for file in given)
        return looks(root, given, *more)

    monkeypatch.setattr(building, "_looks", watched)
    yield files


def entries(folder: Path) -> set[str]:
    """Names in the store's folder, all but the lock and what comparing kept."""
    return {path.name for path in folder.iterdir() if path.name != ".lock" and not path.name.startswith("alike-")}


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


# ---- killed ----

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from scp_ray.data.isic2019 import ISIC2019
def progress(stage, done, total):
    print(stage, done, total, flush=True)
{before}
if __name__ == "__main__":
    data = ISIC2019(sys.argv[1], image_size=32)
    try:
        print("built", data.build(progress), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""
BEFORE_RENAME = """
replace = os.replace
def killed(path, target):
    if Path(target).name.startswith("32px-"):
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
os.replace = killed
"""


def start(tmp_path: Path, root: Path, before: str = "") -> subprocess.Popen[str]:
    """A build in a process of its own, changed by the code ``before``; it says what it does."""
    script = tmp_path / f"build{len(list(tmp_path.glob('build*.py')))}.py"
    script.write_text(SCRIPT.format(before=before), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(script), str(root)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "LOKY_MAX_CPU_COUNT": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # the processes that decode for it can be ended with it
    )


SLOWLY = """
tell = progress
def progress(stage, done, total):
    tell(stage, done, total)
    time.sleep(0.1)
"""


def log_lines(home: Path) -> int:
    logs = list(home.rglob("*px-*-building/log"))
    return logs[0].read_bytes().count(b"\n") if logs else 0


@pytest.fixture
def undisturbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], bytes]:
    """The bytes of a store that was built elsewhere without a kill."""

    def undisturbed(root: Path) -> bytes:
        with monkeypatch.context() as patch:
            patch.setenv("SCP_RAY_STORE", str(tmp_path / "undisturbed"))
            return data_set(root).build().read_bytes()

    return undisturbed


def test_a_build_goes_on_after_a_kill(
    tmp_path: Path, home: Path, decoded: list[str], undisturbed: Callable[[Path], bytes]
) -> None:
    root = make(tmp_path / "many", 320)
    process = start(tmp_path, root, SLOWLY)
    deadline = time.monotonic() + 60
    while log_lines(home) < 64 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = log_lines(home)
    assert 64 <= done < 320
    assert list(home.rglob("*.arrow")) == []
    path = data_set(root).build()
    assert len(decoded) == 320 - done
    assert path.read_bytes() == undisturbed(root)
    assert entries(path.parent) == {path.name, "facts-2.arrow"}


def test_a_kill_before_the_rename_leaves_no_store(
    root: Path, tmp_path: Path, home: Path, decoded: list[str], undisturbed: Callable[[Path], bytes]
) -> None:
    process = start(tmp_path, root, BEFORE_RENAME)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in home.rglob("*.arrow")] == ["facts-2.arrow"]
    path = data_set(root).build()
    assert decoded == []  # all was in the scratch
    assert path.read_bytes() == undisturbed(root)


def test_what_a_kill_before_the_rename_left_is_cleared_away(root: Path, tmp_path: Path) -> None:
    start(tmp_path, root, BEFORE_RENAME).communicate()
    path = data_set(root).build()
    assert entries(path.parent) == {path.name, "facts-2.arrow"}


def interrupt(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that ends when all images are read and none is in a store."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(listed, "write_store", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data_set(root).build()


@pytest.fixture
def scratch(root: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """What a build that was interrupted left: all twelve images, none in a store, and no facts."""
    interrupt(root, monkeypatch)
    (folder,) = home.rglob("32px-2-building")
    assert (folder / "pixels-0").stat().st_size == LEAD + 12 * ROW
    assert (folder / "log").read_bytes().count(b"\n") == 12
    (folder.parent / "facts-2.arrow").unlink()
    return folder


def test_whole_scratch_is_not_decoded_again(root: Path, scratch: Path, decoded: list[str]) -> None:
    assert_holds(data_set(root), numbered(range(12)))
    assert decoded == []


def logged(lines: Sequence[bytes]) -> list[str]:
    return [Path(json.loads(line)["file"]).stem for line in lines]


@pytest.mark.parametrize("cut", [1, 2, 100, 500])
def test_a_torn_line_of_the_log(root: Path, scratch: Path, decoded: list[str], cut: int) -> None:
    log = (scratch / "log").read_bytes()
    (scratch / "log").write_bytes(log[:-cut])
    assert_holds(data_set(root), numbered(range(12)))
    names = logged(log.splitlines())
    lost = {1: names[11:], 2: names[11:], 100: names[11:], 500: names[10:]}
    assert decoded == lost[cut]


@pytest.mark.parametrize("cut", [1, 100])
def test_a_torn_line_does_not_swallow_the_next(
    root: Path, scratch: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    log = (scratch / "log").read_bytes()
    (scratch / "log").write_bytes(b"".join(log.splitlines(keepends=True)[:6])[:-cut])
    interrupt(root, monkeypatch)  # again, after the rest
    (scratch.parent / "facts-2.arrow").unlink()
    decoded.clear()
    assert (scratch / "log").read_bytes().count(b"\n") == 12
    assert_holds(data_set(root), numbered(range(12)))
    assert decoded == []


def test_pixels_that_the_log_does_not_know_are_cut_off(root: Path, scratch: Path, decoded: list[str]) -> None:
    lines = (scratch / "log").read_bytes().splitlines(keepends=True)
    (scratch / "log").write_bytes(b"".join(lines[:5]))
    pixels = (scratch / "pixels-0").read_bytes()
    (scratch / "pixels-0").write_bytes(pixels[: LEAD + 5 * ROW] + bytes(3 * ROW + 7))
    assert_holds(data_set(root), numbered(range(12)))
    assert decoded == logged(lines)[5:]


@pytest.mark.parametrize("damage", ["torn", "flipped"])
def test_damaged_pixels_of_the_scratch_are_never_used(root: Path, scratch: Path, home: Path, damage: str) -> None:
    pixels = bytearray((scratch / "pixels-0").read_bytes())
    if damage == "torn":
        pixels = pixels[:-ROW]
    else:
        pixels[LEAD + 5 * ROW + 7] ^= 1
    (scratch / "pixels-0").write_bytes(pixels)
    try:
        assert_holds(data_set(root), numbered(range(12)))
    except DataError as error:
        assert str(scratch) in str(error) and "Delete it and build again" in str(error)
        assert [path.name for path in home.rglob("*.arrow")] == ["facts-2.arrow"]
        shutil.rmtree(scratch)
        assert_holds(data_set(root), numbered(range(12)))


def test_a_picture_that_changed_after_the_kill_is_decoded_anew(root: Path, scratch: Path, decoded: list[str]) -> None:
    save(root, "i004", 99, "PNG")
    assert_holds(data_set(root), numbered(range(12)) | {"i004": 99})
    assert decoded == ["i004"]


# ---- another version of the decoding ----

NEWER = """
from PIL import ImageOps
from scp_ray.data import pixels
pixels.DECODE_VERSION = 3
"""
NEWER_RUN = """
square = pixels.square
pixels.square = lambda image, size: ImageOps.invert(square(image, size))
data = ISIC2019(sys.argv[1], image_size=32)
{first}
split = data.load().splits["val"]
print("red of the first", int(split.image[0, 0, 0, 0]))
"""


def newer(root: Path, first: str) -> str:
    """What a version whose pixels are the inverted ones loads."""
    code = "import sys" + NEWER + "from scp_ray.data.isic2019 import ISIC2019" + NEWER_RUN.format(first=first)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code, str(root)], env=environment, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def test_a_newer_version_does_not_use_an_older_store(root: Path) -> None:
    data_set(root).build()
    assert newer(root, "") == f"red of the first {255 - expected(2)[0][0][0]}"


def test_a_newer_version_that_knows_the_files_does_not_use_an_older_store(root: Path) -> None:
    data_set(root).build()
    assert newer(root, "data.table()") == f"red of the first {255 - expected(2)[0][0][0]}"


def test_a_newer_version_does_not_go_on_with_an_older_scratch(root: Path, scratch: Path) -> None:
    assert newer(root, "") == f"red of the first {255 - expected(2)[0][0][0]}"


# ---- disks that refuse ----

LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


@pytest.mark.parametrize("limit", [5 * ROW, LEAD + 12 * ROW + 10], ids=["while decoding", "while writing the store"])
def test_a_full_disk_leaves_nothing_behind(root: Path, tmp_path: Path, limit: int) -> None:
    earlier = data_set(root, image_size=8).build()
    content = earlier.read_bytes()
    said, _ = start(tmp_path, root, LIMITED.format(limit=limit)).communicate()
    assert "DataError cannot write" in said
    assert "Free space, or name another place by the environment variable SCP_RAY_STORE." in said
    assert "Traceback" not in said
    assert entries(earlier.parent) == {earlier.name, "facts-2.arrow"}
    assert earlier.read_bytes() == content
    assert_holds(data_set(root), numbered(range(12)))


def free(monkeypatch: pytest.MonkeyPatch, free_bytes: Callable[[Path], int]) -> None:
    usage = lambda folder: SimpleNamespace(total=1 << 40, used=0, free=free_bytes(Path(folder)))  # noqa: E731
    monkeypatch.setattr(building, "disk_usage", usage)


# published rows are decoded into their place; rows that are dealt are put in order by a copy
@pytest.mark.parametrize(("splits", "images"), [("published", 12), ("seeded", 24)])
def test_a_disk_that_will_be_full_is_refused_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str], home: Path, splits: str, images: int
) -> None:
    data = data_set(root, splits=splits, val_share=0.3, test_share=0.3)
    free(monkeypatch, lambda folder: images * ROW - 1)
    with pytest.raises(DataError, match=r"has 0 MB free; .* up to 0 MB there\. Free space, or name another place"):
        data.build()
    assert decoded == []
    assert list(home.rglob("*.arrow")) == []
    assert not any((path / "pixels-0").stat().st_size for path in home.rglob("32px-2-building"))
    free(monkeypatch, lambda folder: images * ROW)
    data.build()


def test_a_build_that_was_killed_needs_only_the_rest(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a disk for two and a half stores, one of which lies in the scratch
    free(monkeypatch, lambda folder: 12 * ROW * 5 // 2 - (scratch / "pixels-0").stat().st_size)
    assert_holds(data_set(root), numbered(range(12)))


def test_a_store_folder_that_is_a_file_is_refused(root: Path, home: Path) -> None:
    home.write_text("taken")
    with pytest.raises(DataError, match=r"cannot write .*SCP_RAY_STORE"):
        data_set(root).build()


WITHOUT_RIGHTS = """
import ctypes
header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capset(2): the superuser writes where nobody may
if os.geteuid() == 0:
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
print("rows", len(ISIC2019(sys.argv[1], image_size=8).load().splits["train"]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs capset(2)")
def test_a_folder_that_cannot_be_written_is_read_and_refused(root: Path, tmp_path: Path) -> None:
    folder = data_set(root, image_size=8).build().parent
    before = entries(folder)
    folder.chmod(0o555)
    try:
        said, _ = start(tmp_path, root, WITHOUT_RIGHTS).communicate()
    finally:
        folder.chmod(0o755)
    assert "rows 6" in said
    assert "DataError cannot write" in said and "SCP_RAY_STORE" in said
    assert "Traceback" not in said
    assert entries(folder) == before


@pytest.mark.skipif(sys.platform != "linux", reason="needs capset(2)")
def test_a_folder_that_cannot_be_written_is_read_without_what_comparing_kept(root: Path, tmp_path: Path) -> None:
    folder = data_set(root, image_size=8).build().parent
    for path in folder.glob("alike-*"):
        path.unlink()
    folder.chmod(0o555)
    try:
        said, _ = start(tmp_path, root, WITHOUT_RIGHTS).communicate()
    finally:
        folder.chmod(0o755)
    assert "rows 6" in said


# ---- several at once ----

COUNTED = """
from scp_ray.data import build as building
looks, decoded = building._looks, []
def watched(root, files, *more):
    decoded.extend(files)
    return looks(root, files, *more)
building._looks = watched
tell_all = progress
def progress(stage, done, total):
    tell_all(stage, done, total)
    if stage.startswith("waiting"):
        (Path(sys.argv[1]) / "waiting").touch()
import atexit
atexit.register(lambda: print("decoded", len(decoded), flush=True))
"""


UNTIL_ANOTHER_WAITS = """
tell = progress
def progress(stage, done, total):
    tell(stage, done, total)
    end = time.monotonic() + 60
    while stage.startswith("writing") and not (Path(sys.argv[1]) / "waiting").exists() and time.monotonic() < end:
        time.sleep(0.01)
"""


def test_two_builds_at_once_decode_once(tmp_path: Path, home: Path, undisturbed: Callable[[Path], bytes]) -> None:
    root = make(tmp_path / "many", 128)
    first = start(tmp_path, root, COUNTED + UNTIL_ANOTHER_WAITS)
    deadline = time.monotonic() + 60
    while not log_lines(home) and time.monotonic() < deadline:
        time.sleep(0.005)
    second = start(tmp_path, root, COUNTED)
    said = [process.communicate()[0] for process in (first, second)]
    paths = {text.partition("built ")[2].splitlines()[0] for text in said}
    assert len(paths) == 1
    assert sorted(text.partition("decoded ")[2].strip() for text in said) == ["0", "128"]
    assert ["waiting for another process that reads the images of" in text for text in said] == [False, True]
    assert ["writing" in text for text in said] == [True, False]
    assert Path(paths.pop()).read_bytes() == undisturbed(root)


LOADED = """
import hashlib
from pathlib import Path
import sys
from scp_ray.data.isic2019 import ISIC2019
for name, split in ISIC2019(sys.argv[1], image_size=32).load().splits.items():
    parts = (split.image, split.label, split.attributes)
    print(name, *split.id, *(hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in parts))
"""


def test_two_processes_load_the_same(root: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", LOADED, str(root)]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    one, other = (process.communicate()[0] for process in both)
    assert one == other
    assert [text.split()[0] for text in one.splitlines()] == ["train", "val", "test"]
    assert one.splitlines()[1].split()[1:4] == ["i002", "i006", "i010"]
    pixels = np.array([expected(row) for row in (2, 6, 10)], np.uint8)
    assert one.splitlines()[1].split()[4] == hashlib.sha256(pixels.tobytes()).hexdigest()


def test_one_process_loads_once(root: Path) -> None:
    assert data_set(root).load() is data_set(root).load()


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
