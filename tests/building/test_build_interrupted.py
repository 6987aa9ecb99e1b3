"""Builds that are killed, refused by the disk, taken over by another version, or two at once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pictured import (
    LEAD,
    ROW,
    assert_holds,
    data_set,
    entries,
    expected,
    make,
    numbered,
    save,
)
from processes import below, left_after

from scp_ray.data import build as building
from scp_ray.data import listed
from scp_ray.errors import DataError

REPOSITORY = Path(__file__).parents[2]


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


def test_a_signal_ends_a_build_with_the_processes_that_decode(
    tmp_path: Path, home: Path, undisturbed: Callable[[Path], bytes]
) -> None:
    """Exit code 75; what was decoded until then is kept, and the same command goes on."""
    root = make(tmp_path / "many", 640)
    command = [sys.executable, "-m", "scp_ray.cli.main", "data", "build", "isic2019", "--root", str(root)]
    command += ["--image-size", "32"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while log_lines(home) < 32 and time.monotonic() < deadline:
        time.sleep(0.002)
    family = below(process.pid)
    process.send_signal(signal.SIGUSR1)
    began = time.monotonic()
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 75, told
    assert time.monotonic() - began < 10
    assert left_after(family, 2) == []
    assert list(home.rglob("*.arrow")) == []
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (path,) = home.rglob("32px-*.arrow")
    assert path.read_bytes() == undisturbed(root)


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
