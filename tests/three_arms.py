"""Three arms with planted accuracies, as a sweep leaves them: the second is repaired, the third is worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from planted_sweep import Images, write

SEEDS = (0, 1, 2)
ARMS = {
    "pr_c=0.1, layer=-1": {"pr_c": 0.1, "layer": -1},
    "pr_c=0.2, layer=-1": {"pr_c": 0.2, "layer": -1},
    "pr_c=0.2, layer=-2": {"pr_c": 0.2, "layer": -2},
}
# right answers of group 0 and of group 1; the base is unfair, the second arm is repaired, the third is worse
ACCURACY = {"pr_c=0.1, layer=-1": (0.95, 0.5), "pr_c=0.2, layer=-1": (0.95, 0.93), "pr_c=0.2, layer=-2": (0.95, 0.05)}
BASE = (0.95, 0.45)


def make(root: Path, base: tuple[float, float] = BASE, seeds: tuple[int, ...] = SEEDS, **changes: Any) -> Path:
    images = Images()
    answers = {
        (label, seed): images.answers(accuracy, 100 * position + seed)
        for position, (label, accuracy) in enumerate(ACCURACY.items(), 1)
        for seed in seeds
    }
    bases = {seed: images.answers(base, seed) for seed in seeds}
    return write(root, images, ARMS, answers, bases, **changes)
