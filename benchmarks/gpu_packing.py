"""Several small trials on one GPU, a quarter of it each, against one after another.

Run: python -m benchmarks.gpu_packing [--trials N] [--epochs N]
The tiny backbone at 96 px on generated pictures, one round; from the base model's row to the last row of the ledger, so
that neither starting Ray nor the base model counts. Goal: at least 1.8 times the throughput.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import arguments, tell
from benchmarks.orchestration import run_sweep
from scp_ray.ledger import load_sweep


def main() -> None:
    """Both ways in turns."""
    options = arguments(__doc__ or "", trials=16, epochs=40, repeats=5)
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here: this figure is of one.")
    took: dict[float, list[float]] = {0.25: [], 1.0: []}
    for _ in range(options.repeats):
        for share, seen in took.items():
            seen.append(_elapsed(options.trials, options.epochs, share))
    packed, alone = (statistics.median(seen) for seen in took.values())
    tell(what="gpu_packing", trials=options.trials, packed_s=round(packed, 1), one_by_one_s=round(alone, 1),
         ratio=round(alone / packed, 2), goal=1.8)  # fmt: skip


def _elapsed(trials: int, epochs: int, share: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run_sweep(Path(folder), space(trials, epochs, share))
        sweep = load_sweep(Path(folder) / "packing")
        done = sweep.rounds[sweep.rounds["round"] > 0]
        assert len(done) == trials, len(done)
        return float(done["time"].max() - sweep.bases["time"].max())


def space(trials: int, epochs: int, share: float) -> dict[str, Any]:
    """Fine-tuning rates that differ, each trial on so much of a GPU."""
    plan = {"epochs": 3, "batch_size": 64, "lr": 0.01}
    images = {"name": "synthetic", "image_size": 96, "train": 2048, "val": 256, "test": 256}
    return {
        "name": "packing",
        "trial": {"dataset": images, "backbone": "tiny", "pr_c": 0.1, "rounds": 1, "train": plan}
        | {"fine_tune": plan | {"epochs": epochs}},
        "grid": {"fine_tune.lr": [round(0.001 + 1e-6 * index, 6) for index in range(trials)]},
        "seeds": [0],
        "resources": {"device": "cuda", "gpus_per_trial": share, "cpus_per_trial": 1, "threads_per_trial": 1},
    }


if __name__ == "__main__":
    main()
