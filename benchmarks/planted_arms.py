"""Two classifiers with known cell accuracies on a published test table, trained S times each: answers without images.

Apart from scp_ray's own planted pairs, which its power rests on: a check must not share what it checks.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# where fitzpatrick17k_test.csv and isic2019_test_pretraining.csv lie
METADATA = Path(os.environ.get("SCP_RAY_METADATA", Path(__file__).parents[2] / "shared" / "data" / "metadata"))
ACCURACY = {"fitzpatrick": 0.54, "isic": 0.79}  # of the published classifiers, about


@dataclass(frozen=True)
class Table:
    """A test split: classes, groups and units (N,), and how often a fair classifier is right on it."""

    name: str
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    unit: NDArray[np.int64]
    classes: int


def read_table(name: str, folder: Path = METADATA) -> Table:
    """``fitzpatrick`` (114 classes; dark and unknown types are group 1) or ``isic`` (8 classes, sex, lesions)."""
    file = {"fitzpatrick": "fitzpatrick17k_test.csv", "isic": "isic2019_test_pretraining.csv"}[name]
    with (folder / file).open(newline="") as source:
        rows = list(csv.DictReader(source))
    label = np.array([int(float(row["low"])) for row in rows])
    if name == "isic":
        group = np.array([int(float(row["gender"])) for row in rows])
        units = [row["lesion_id"] or row["image"] for row in rows]
    else:
        group = np.array([int(int(float(row["fitzpatrick"])) not in (1, 2, 3)) for row in rows])
        units = [row["md5hash"] for row in rows]
    return Table(name, label, group, np.unique(units, return_inverse=True)[1], int(label.max()) + 1)


@dataclass(frozen=True)
class Arms:
    """Probabilities of a right answer (2 arms, K, 2 groups), and what answers have in common.

    A share ``arms_agree`` of the images is answered by both arms of a seed from the same draw; each seed takes the
    draw that is common to all seeds for a share ``seeds_agree``, so that two do for its square; ``unit_agrees`` of the
    images of a unit share theirs. A training moves each arm's accuracy in each group by a normal amount of standard
    deviation ``seed_noise``.
    """

    table: Table
    right: NDArray[np.float64]
    seed_noise: float = 0.02
    arms_agree: float = 0.8
    seeds_agree: float = 0.5
    unit_agrees: float = 0.8

    def draw(self, seeds: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Predictions (seeds, N) of both arms on newly drawn images."""
        always, second_always = self._world(rng), self._world(rng)
        found = np.empty((2, seeds, len(self.table.label)), dtype=np.int64)
        for seed in range(seeds):
            world = self._mixed(always, self._world(rng), self.seeds_agree, rng)
            other = self._mixed(second_always, self._world(rng), self.seeds_agree, rng)
            worlds = (world, self._mixed(world, other, self.arms_agree, rng))
            for arm, (level, wrong) in enumerate(worlds):
                moved = self.right[arm] + self.seed_noise * rng.standard_normal(2)
                bar = np.clip(moved, 0.005, 0.995)[self.table.label, self.table.group]
                found[arm, seed] = np.where(level < bar, self.table.label, wrong)
        return found[0], found[1]

    def draw_rounds(self, seeds: int, rounds: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Predictions (seeds, rounds, N) of the second arm and of it trained on: no round is better than another."""
        always = self._world(rng)
        found = np.empty((seeds, rounds, len(self.table.label)), dtype=np.int64)
        for seed in range(seeds):
            world = self._mixed(always, self._world(rng), self.seeds_agree, rng)
            for index in range(rounds):
                level, wrong = self._mixed(world, self._world(rng), self.arms_agree, rng)
                moved = self.right[1] + self.seed_noise * rng.standard_normal(2)
                bar = np.clip(moved, 0.005, 0.995)[self.table.label, self.table.group]
                found[seed, index] = np.where(level < bar, self.table.label, wrong)
        return found

    def _world(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """How hard each image is, in 0..1, and what it is taken for where that is too hard, each (N,)."""
        unit, count = self.table.unit, len(self.table.label)
        hard = np.where(rng.random(count) < self.unit_agrees, rng.random(count)[unit], rng.random(count))
        wrong = self.table.label[rng.integers(count, size=count)]
        while (same := wrong == self.table.label).any():
            wrong[same] = self.table.label[rng.integers(count, size=int(same.sum()))]
        return hard, wrong

    @staticmethod
    def _mixed(
        one: tuple[NDArray[np.float64], NDArray[np.int64]],
        two: tuple[NDArray[np.float64], NDArray[np.int64]],
        share: float,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        taken = rng.random(len(one[0])) < share
        return np.where(taken, one[0], two[0]), np.where(taken, one[1], two[1])


def planted(table: Table, *, better_by: float, gap: float, base_gap: float = 0.0, uneven: float = 0.1) -> Arms:
    """Arms whose classes are unevenly hard. The second is right in TPR by ``base_gap`` more often in group 0 than in
    group 1 (both shifted by half); the first more often than that by ``better_by``, and by ``gap`` in group 0."""
    spread = uneven * np.random.default_rng(0).standard_normal((table.classes, 1))
    apart = np.array([1.0, -1.0]) / 2
    second = np.clip(np.repeat(ACCURACY[table.name] + spread, 2, axis=1) + base_gap * apart, 0.1, 0.95)
    first = np.clip(second + better_by + gap * apart, 0.01, 0.99)
    return Arms(table, np.stack([first, second]))


def without_seed_noise(arms: Arms) -> Arms:
    """The same classifiers, trained alike each time."""
    return replace(arms, seed_noise=0.0)
