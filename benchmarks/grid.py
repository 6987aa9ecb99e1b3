"""A grid of 5 pruning ratios x 8 layers x 2 seeds of the tiny backbone, two trials at a time, over its fits alone.

Run: python -m benchmarks.grid [--seconds S] [--layers N] [--ratios N] [--runs N]
Trials whose fine-tuning takes S seconds each (real ones take minutes: the rest weighs less there). From the first base
model's start to the ledger's last row, over the seconds of all fits shared by two workers; with it the whole command.
Of several runs the medians.
Counted: base models trained, and how often first scores were written, a look every 20 ms. Goals: at most 1.15 times; 2
base models; once per base model and layer.
"""

from __future__ import annotations

import statistics
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
    """Run the sweep and read its ledger, so many times."""
    options = arguments(__doc__ or "", seconds=4.0, layers=8, ratios=5, runs=1)
    epochs = epochs_of(options.seconds)
    seen = [run(epochs, options.layers, options.ratios) for _ in range(options.runs)]
    middle = {key: round(statistics.median(each[key] for each in seen), 3) for key in seen[0]}
    ratios = [each["ratio"] for each in seen]
    most = {key: max(each[key] for each in seen) for key in ("bases", "first_scores")}
    tell(what="grid", **middle | most, ratio_from_to=[round(min(ratios), 3), round(max(ratios), 3)], runs=len(seen),
         base_layers=2 * options.layers, goal=1.15)  # fmt: skip


def run(epochs: int, layers: int, ratios: int) -> dict[str, float]:
    """One sweep."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with writes_of(out, "*/bases/*/scores/*.parquet") as written:
            began = time.perf_counter()
            run_sweep(out, grid(epochs, layers, ratios))
            command = time.perf_counter() - began
        sweep = load_sweep(out / "orchestration")
        rounds, bases = sweep.rounds[sweep.rounds["round"] > 0], sweep.bases
    trials = 2 * layers * ratios
    assert len(rounds) == trials, len(rounds)
    fits = float(rounds["seconds_fit"].sum() + bases["seconds_fit"].sum()) / WORKERS
    elapsed = float(rounds["time"].max() - (bases["time"] - bases["seconds"]).min())
    times = {"fit_s": float(rounds["seconds_fit"].mean()), "elapsed_s": elapsed, "fits_s": fits, "command_s": command}
    return times | {"ratio": elapsed / fits, "trials": trials, "bases": len(bases), "first_scores": len(written)}


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
