"""What training in bfloat16 does to F1: base models of 5 seeds trained both ways, compared seed by seed.

Run: python -m benchmarks.precision [--backbone NAME] [--size S] [--train N] [--epochs N] [--seeds N], 2 or more
Generated pictures; on a GPU ResNet-18 at 128 px, on a CPU the tiny backbone. ``difference`` is the mean over seeds of
F1 in bf16 less F1 in float32, with half the width of its 95 % interval (t, paired); ``seed_std`` is how much F1 in
float32 differs between seeds by itself. Goal: the interval holds 0.
"""

from __future__ import annotations

import argparse
import math
import statistics

import torch
from scipy.stats import t as student

from benchmarks.measure import arguments, tell
from scp_ray.allocator import keep_freed_memory
from scp_ray.config import TrialConfig
from scp_ray.trial import Result, train_base


def main() -> None:
    """Both precisions of each seed in turns."""
    gpu = torch.cuda.is_available()
    options = arguments(__doc__ or "", backbone="resnet18" if gpu else "tiny", size=128 if gpu else 32,
                        train=4000 if gpu else 600, epochs=20 if gpu else 6, seeds=5)  # fmt: skip
    keep_freed_memory()
    device = torch.device("cuda" if gpu else "cpu")
    reached = [
        [trained(options, precision, seed, device) for precision in ("float32", "bf16")]
        for seed in range(options.seeds)
    ]
    exact, apart = [one for one, _ in reached], [fast - one for one, fast in reached]
    half = student.ppf(0.975, len(apart) - 1) * statistics.stdev(apart) / math.sqrt(len(apart))
    tell(what="precision", backbone=options.backbone, size=options.size, seeds=options.seeds,
         f1=round(statistics.mean(exact), 4), seed_std=round(statistics.stdev(exact), 4),
         difference=round(statistics.mean(apart), 4), half=round(half, 4))  # fmt: skip


def trained(options: argparse.Namespace, precision: str, seed: int, device: torch.device) -> float:
    """F1 on validation of one base model."""
    plan = {"epochs": options.epochs, "batch_size": 64, "lr": 0.01, "precision": precision}
    images = {"name": "synthetic", "image_size": options.size, "train": options.train, "val": 1000, "test": 16}
    config = TrialConfig.from_dict(
        {"dataset": images, "backbone": options.backbone, "pr_c": 0.1, "rounds": 0, "train": plan, "seed": seed}
    )
    *_, result = train_base(config, device=device)
    assert isinstance(result, Result)
    return result.val.report.f1_mean


if __name__ == "__main__":
    main()
