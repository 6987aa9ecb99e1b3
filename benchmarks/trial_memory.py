"""Peak memory of a trial against a plain loop of the same model, batch and steps.

Run: python -m benchmarks.trial_memory [--batch N] [--size S] [--steps N] [--repeats N]
Each is a process of its own. The trial trains a base model, scores, prunes and fine-tunes one round, and evaluates; the
loop is torch alone, on one resident batch. On a CPU the most resident memory, on a GPU the most that torch allocated.
Goal: at most 1.15 times, beside the decoded images.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

import torch
from torch.nn import functional

from benchmarks.measure import arguments, in_child, tell

CLASSES, HELD_OUT = 8, 64


def main() -> None:
    """Both in turns; medians."""
    if len(sys.argv) == 5 and sys.argv[1] in ("--trial", "--loop"):
        _peak_of(sys.argv[1], *map(int, sys.argv[2:]))
        return
    options = arguments(__doc__ or "", batch=64, size=96, steps=2, repeats=5)
    numbers = (options.batch, options.size, options.steps)
    peaks: dict[str, list[float]] = {"--trial": [], "--loop": []}
    for _ in range(options.repeats):
        for kind, seen in peaks.items():
            seen += in_child("trial_memory", kind, *numbers)
    trial, loop = (statistics.median(seen) for seen in peaks.values())
    images = (options.batch * options.steps + 2 * HELD_OUT) * 3 * options.size**2 / 2**20
    tell(what="trial_memory", batch=options.batch, size=options.size, trial_mb=round(trial), loop_mb=round(loop),
         images_mb=round(images, 1), ratio=round((trial - images) / loop, 3), goal=1.15)  # fmt: skip


def _peak_of(kind: str, batch: int, size: int, steps: int) -> None:
    """Print the most MB that this process took."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(2)
    _trial(device, batch, size, steps) if kind == "--trial" else _loop(device, batch, size, steps)
    from scp_ray.devices import peak_memory_mb

    print(peak_memory_mb(device))


def _trial(device: torch.device, batch: int, size: int, steps: int) -> None:
    from scp_ray.config import TrialConfig
    from scp_ray.trial import run_trial

    plan: dict[str, Any] = {"epochs": 1, "batch_size": batch, "lr": 0.01}
    images = {"image_size": size, "train": batch * steps, "val": HELD_OUT, "test": HELD_OUT}
    trial = {"dataset": {"name": "synthetic", **images}, "backbone": "resnet18", "pr_c": 0.1, "rounds": 1}
    criterion = {"name": "snnl", "batch_size": batch}
    for _ in run_trial(
        TrialConfig.from_dict(trial | {"criterion": criterion, "train": plan, "fine_tune": plan}), device=device
    ):
        pass


def _loop(device: torch.device, batch: int, size: int, steps: int) -> None:
    from torchvision.models import resnet18

    model = resnet18(num_classes=CLASSES).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-5)
    image, label = torch.rand(batch, 3, size, size, device=device), torch.arange(batch, device=device) % CLASSES
    for _ in range(2 * steps):
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(image), label).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


if __name__ == "__main__":
    main()
