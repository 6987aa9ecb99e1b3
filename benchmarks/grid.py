"""A grid of 5 pruning ratios x 8 layers x 2 seeds of the tiny backbone, two trials at a time, over its fits alone.

Run: python -m benchmarks.grid [--seconds S] [--layers N] [--ratios N]
Trials whose fine-tuning takes S seconds each (real ones take minutes: the rest weighs less there). From the first base
model's start to the ledger's last row, over the seconds of all fits shared by two workers; with it the whole command.
Counted: base models trained, and how often first scores were written, a look every 20 ms. Goals: at most 1.15 times; 2
base models; once per base model and layer.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import arguments, tell
from benchmarks.orchestration import WORKERS, epochs_of, run_sweep, space
from scp_ray.ledger import load_sweep

RATIOS = (0.07, 0.13, 0.19, 0.25, 0.32)  # of 16 channels 1 to 5: no two arms are one trial, also in the first layers


def main() -> None:
    """Run the sweep and read its ledger."""
    options = arguments(__doc__ or "", seconds=4.0, layers=8, ratios=5)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        epochs = epochs_of(options.seconds)
        with writes_of(out, "*/bases/*/scores/*.parquet") as written:
            began = time.perf_counter()
            run_sweep(out, grid(epochs, options.layers, options.ratios))
            command = time.perf_counter() - began
        sweep = load_sweep(out / "orchestration")
        rounds, bases = sweep.rounds[sweep.rounds["round"] > 0], sweep.bases
    trials = 2 * options.layers * options.ratios
    assert len(rounds) == trials, len(rounds)
    fits = float(rounds["seconds_fit"].sum() + bases["seconds_fit"].sum()) / WORKERS
    elapsed = float(rounds["time"].max() - (bases["time"] - bases["seconds"]).min())
    tell(what="grid", trials=trials, fit_s=round(float(rounds["seconds_fit"].mean()), 2), elapsed_s=round(elapsed, 1),
         fits_s=round(fits, 1), ratio=round(elapsed / fits, 3), command_s=round(command, 1), bases=len(bases),
         first_scores=len(written), base_layers=2 * options.layers, goal=1.15)  # fmt: skip


def grid(epochs: int, layers: int, ratios: int) -> dict[str, Any]:
    """The space of ``orchestration`` with other axes; enough training images that scoring them takes longer than
    reading scores."""
    raw = space(1, epochs)
    trial = {key: value for key, value in raw["trial"].items() if key != "pr_c"}
    trial["dataset"] = trial["dataset"] | {"train": 256}
    trial["train"] = trial["train"] | {"epochs": 2}
    trial["fine_tune"] = trial["fine_tune"] | {"epochs": max(1, round(epochs * 96 / 256))}
    axes = {"pr_c": list(RATIOS[:ratios]), "layer": list(range(1, layers + 1))}
    return raw | {"trial": trial, "grid": axes, "seeds": [0, 1]}


@contextmanager
def writes_of(folder: Path, pattern: str) -> Iterator[set[tuple[Path, int, int]]]:
    """Every state in which files of this pattern are seen: a file that is written again is another one."""
    seen: set[tuple[Path, int, int]] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for path in folder.glob(pattern):
                facts = path.stat()
                seen.add((path, facts.st_ino, facts.st_mtime_ns))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
