"""Processes of a sweep, found by their ancestry."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


def below(pid: int) -> set[tuple[int, str]]:
    """All processes below: (id, start time), the second because ids are used again."""
    parents: dict[int, tuple[int, str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = (int(fields[1]), fields[19])
    found, new = {pid}, {pid}
    while new:
        new = {child for child, (parent, _) in parents.items() if parent in new} - found
        found |= new
    return {(child, parents[child][1]) for child in found - {pid}}


def alive(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those that are still there, zombies aside."""
    there = set()
    for pid, started in processes:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[19] == started and fields[0] != "Z":
            there.add((pid, started))
    return there


def left_after(processes: set[tuple[int, str]], seconds: float) -> list[str]:
    """What is still running after so long, by name; waits no longer than it has to."""
    ends = time.monotonic() + seconds
    while alive(processes) and time.monotonic() < ends:
        time.sleep(0.1)
    names = []
    for pid, _ in alive(processes):
        try:
            names.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200] or str(pid))
        except OSError:
            continue
    return names


def runs_below(pid: int, name: str) -> bool:
    """Whether a process below has this in its command line."""
    for child, _ in below(pid):
        with suppress(OSError):  # ended since
            if name in Path(f"/proc/{child}/cmdline").read_text():
                return True
    return False
