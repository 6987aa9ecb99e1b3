"""A real, small disk of its own, for tests of what happens when it is full or read-only."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


class Disk:
    """A mounted tmpfs of so many kilobytes."""

    def __init__(self, path: Path, kilobytes: int) -> None:
        self.path = path
        path.mkdir()
        answer = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)], capture_output=True, text=True
        )
        if answer.returncode:
            pytest.skip(f"no disk can be mounted here: {answer.stderr.strip()}")

    def leave(self, kilobytes: int) -> None:
        """Fill it with something else until only so much is free."""
        (self.path / "ballast").unlink(missing_ok=True)
        free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize // 1024
        assert free >= kilobytes, f"{free} kB are free"
        with suppress(OSError):  # of the rest somebody else may take a part meanwhile
            (self.path / "ballast").write_bytes(bytes(1024 * (free - kilobytes)))

    def remount(self, options: str) -> None:
        """Tried for a while: a disk is busy while something on it is being written."""
        for _ in range(500):
            answer = subprocess.run(
                ["mount", "-o", f"remount,{options}", str(self.path)], capture_output=True, text=True
            )
            if not answer.returncode:
                return
            time.sleep(0.01)
        raise AssertionError(answer.stderr)

    def half_written(self) -> list[str]:
        """Files that are being written, or were; the lock beside MLflow's database stays."""
        found = [path for path in self.path.rglob(".*") if path.is_file() and path.suffix != ".lock"]
        return sorted(str(path.relative_to(self.path)) for path in found)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """20 MB."""
    made = Disk(tmp_path / "disk", 20_000)
    yield made
    subprocess.run(["umount", "--lazy", str(made.path)], check=True)
