"""Host memory that a second trial on the same node adds: its unique set size over that of one with hardly any data.

Run: python -m benchmarks.data_memory [--megabytes N]
Each trial is a process of its own that opens the store and goes through an epoch of training batches. Goal: under 50 MB
for 1 GB of images.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import arguments, tell
from benchmarks.stores import random_store, train_of
from scp_ray.data.batches import TrainFeed
from scp_ray.parts import TrainPlan

SIZE = 128


def main() -> None:
    """Two trials at a time on the large store, then one on a small one."""
    if len(sys.argv) == 3 and sys.argv[1] == "--trial":
        _trial(Path(sys.argv[2]))
        return
    options = arguments(__doc__ or "", megabytes=1000)
    with tempfile.TemporaryDirectory() as scratch:
        large, small = Path(scratch) / "large.arrow", Path(scratch) / "small.arrow"
        random_store(large, options.megabytes * 10**6 // (3 * SIZE * SIZE), SIZE)
        random_store(small, 256, SIZE)
        first, opening_first = _start(large)
        second, opening = _start(large)
        unique = _unique_mb(second.pid)
        alone, _ = _start(small)
        without = _unique_mb(alone.pid)
        for process in (first, second, alone):
            process.communicate("\n")
    added = unique - without
    tell(what="second trial", store_mb=options.megabytes, added_mb=round(added, 1), goal_mb=50,
         opening_ms=round(1000 * opening, 1), opening_first_ms=round(1000 * opening_first, 1))  # fmt: skip


def _start(store: Path) -> tuple[subprocess.Popen[str], float]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.data_memory", "--trial", str(store)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert process.stdout is not None
    return process, float(process.stdout.readline())


def _trial(store: Path) -> None:
    """Say how long opening took once an epoch is over, then wait to be measured."""
    started = time.perf_counter()
    train = train_of(store)
    took = time.perf_counter() - started
    for batch in TrainFeed(train, TrainPlan(batch_size=64, augment="none"), None)(0, 0):
        assert batch.image.shape[2] == SIZE
    print(took, flush=True)
    sys.stdin.readline()


def _unique_mb(process: int) -> float:
    """Pages that no other process maps, resident now."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


if __name__ == "__main__":
    main()
