"""Maps of all samples in a scratch file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scp_ray.errors import ResourceError
from scp_ray.map_file import MapFile


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 1 MiB of its own, where scratch files go."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    monkeypatch.setenv("TMPDIR", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_blocks_of_channels_of_all_batches() -> None:
    """Batches of 5, 1 and 4 samples, one of them laid out by another order of axes."""
    maps = torch.randn(10, 7, 3, generator=torch.Generator().manual_seed(0))
    with MapFile() as file:
        for part in (maps[:5], maps[5:6], maps[6:].transpose(0, 1).contiguous().transpose(0, 1)):
            file.append(part)
        assert file.samples == 10
        for block in (slice(0, 7), slice(6, 7), slice(2, 5)):
            found = file.block(block)
            assert torch.equal(found, maps[:, block])
            assert found[:, 0].is_contiguous()
        file.append(maps[:2])  # also after reading
        assert torch.equal(file.block(slice(3, 4)), torch.cat([maps, maps[:2]])[:, 3:4])


def test_the_file_lies_in_tmpdir_and_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with MapFile() as file:
        file.append(torch.zeros(1, 1, 1))
        opened = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)}
        assert any(path.startswith(str(tmp_path)) for path in opened)
        assert list(tmp_path.iterdir()) == []


def _is_open(fd: str) -> bool:
    return Path(f"/proc/self/fd/{fd}").is_symlink()


def test_what_a_killed_process_wrote_is_gone(small_disk: Path) -> None:
    code = (
        "import os, signal, torch; from scp_ray.map_file import MapFile\n"
        "file = MapFile().__enter__(); file.append(torch.zeros(100, 8, 64)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    before = os.statvfs(small_disk).f_bfree
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert os.statvfs(small_disk).f_bfree == before


def test_too_little_space_is_said_before_anything_is_written(small_disk: Path) -> None:
    """300 samples of 16 channels at 8 x 8: 1.23 MB."""
    with MapFile() as file:
        file.check_space(200, torch.zeros(1, 16, 64))
        with pytest.raises(ResourceError, match=r"300 samples take 1 MB.*has 1 MB left.*Set TMPDIR"):
            file.check_space(300, torch.zeros(1, 16, 64))


def test_a_disk_that_fills_up_meanwhile(small_disk: Path) -> None:
    with MapFile() as file:
        file.append(torch.zeros(200, 16, 64))
        (small_disk / "other").write_bytes(b"x" * 200_000)
        with pytest.raises(ResourceError, match=r"No space left.*Set TMPDIR"):
            file.append(torch.zeros(100, 16, 64))


def test_a_folder_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(ResourceError, match=r"no scratch file can be made in .*missing"), MapFile():
        pass


def test_a_file_that_lost_its_end() -> None:
    with MapFile() as file:
        file.append(torch.zeros(4, 2, 3))
        file._file.truncate(50)
        with pytest.raises(ResourceError, match="lost its end"):
            file.block(slice(0, 2))


MEMORY = """
import re, torch
from pathlib import Path
from scp_ray.map_file import MapFile

def private():
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(map(int, re.findall(r"^Private_\\w+:\\s+(\\d+) kB", text, re.M))) / 1024

torch.set_num_threads(1)
with MapFile() as file:
    file.append(torch.randn(128, 64, 64))
    file.block(slice(0, 4))
    before = private()
    for _ in range(60):
        file.append(torch.randn(128, 64, 64))
    block = file.block(slice(4, 8))
    print(private() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads private memory from /proc")
def test_what_is_written_does_not_stay_in_memory() -> None:
    """126 MB of maps, and a block of 8 MB; pages of mapped files would count as private too."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 7 < float(done.stdout) < 40
