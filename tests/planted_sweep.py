"""A ledger of made-up answers: arms and seeds whose predictions are dealt by hand, two rounds each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scp_ray.maths.fate import fate
from scp_ray.maths.report import fairness_report

CLASSES = 3


class Images:
    """A validation and a test table: label, group, and lesions of one or two images of one class and group."""

    def __init__(self, count: int = 240, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        pairs = np.repeat(np.arange(count // 2), 2)
        self.label = random.integers(CLASSES, size=count // 2)[pairs]
        self.group = random.integers(2, size=count // 2)[pairs]
        self.unit = np.where(pairs % 3 == 0, pairs, np.arange(count) + count)  # every third pair is one lesion
        self.id = np.array([f"image{i}" for i in range(count)])

    def answers(self, accuracy: tuple[float, float], seed: int) -> np.ndarray:
        """(N,) right with each group's probability, else another class."""
        random = np.random.default_rng(seed)
        right = random.random(len(self.label)) < np.take(accuracy, self.group)
        other = (self.label + random.integers(1, CLASSES, size=len(self.label))) % CLASSES
        return np.where(right, self.label, other)


def eodd_by_hand(label: np.ndarray, prediction: np.ndarray, group: np.ndarray, classes: int = CLASSES) -> float:
    """The published reading: half the mean over classes of |TPR difference + FPR difference|."""
    total = 0.0
    for c in range(classes):
        tpr, fpr = [], []
        for g in (0, 1):
            said, true = prediction[group == g] == c, label[group == g] == c
            tpr.append(said[true].mean() if true.any() else 0.0)
            fpr.append(said[~true].mean() if (~true).any() else 0.0)
        total += abs(tpr[0] - tpr[1] + fpr[0] - fpr[1])
    return float(total / 2 / classes)


def predictions(images: Images, by_round: Mapping[int, np.ndarray], test: np.ndarray | None = None) -> pa.Table:
    """As the ledger keeps them; ``test``: what is said of the same images as the test split."""
    parts = []
    for index, said in by_round.items():
        for split, answers in (("val", said), ("test", said if test is None else test)):
            parts.append(
                pa.table(
                    {
                        "round": pa.array([index] * len(said), pa.int32()),
                        "split": [split] * len(said),
                        "id": images.id,
                        "unit": [str(unit) for unit in images.unit],
                        "label": images.label.astype(np.int16),
                        "tone": images.group.astype(np.int16),
                        "prediction": answers.astype(np.int16),
                    }
                )
            )
    return pa.concat_tables(parts)


def rows(images: Images, trial_id: str, base_id: str, seed: int, by_round: Mapping[int, np.ndarray]) -> pa.Table:
    found = []
    reports = {i: fairness_report(images.label, p, images.group, num_classes=CLASSES) for i, p in by_round.items()}
    for index, report in reports.items():
        row = {"trial_id": trial_id, "base_id": base_id, "round": index, "seed": seed, "num_classes": CLASSES}
        row |= report.as_row("val_") | {"stop_reason": "", "stopped": False}
        baseline = {"f1_baseline": reports[0].f1_mean, "gap_baseline": reports[0].eodd}
        row["val_fate_eodd_base"] = fate(report.f1_mean, report.eodd, **baseline)
        found.append(row)
    return pa.Table.from_pylist(found)


def write(
    root: Path,
    images: Images,
    arms: Mapping[str, dict[str, Any]],
    answers: Mapping[tuple[str, int], np.ndarray | Mapping[int, np.ndarray]],
    bases: Mapping[int, np.ndarray],
    test: Mapping[tuple[str, int], np.ndarray] | None = None,
) -> Path:
    """``arms``: settings by label; ``answers``: by label and seed of round 1, or by round; round 1 is selected."""
    for kind in ("rounds", "predictions"):
        (root / kind).mkdir(parents=True)
    entries = []
    for seed, said in bases.items():
        folder = root / "bases" / f"base{seed}"
        folder.mkdir(parents=True)
        pq.write_table(predictions(images, {0: said}), folder / "predictions.parquet")
        pq.write_table(rows(images, "", f"base{seed}", seed, {0: said}), folder / "rounds.parquet")
    for position, (label, settings) in enumerate(arms.items()):
        trials = []
        for seed in sorted(seed for name, seed in answers if name == label):
            key, told = f"t{position}s{seed}", answers[label, seed]
            said = dict(told) if isinstance(told, Mapping) else {1: told}
            tested = None if test is None else test[label, seed]
            pq.write_table(predictions(images, said, tested), root / "predictions" / f"{key}.parquet")
            table = rows(images, key, f"base{seed}", seed, {0: bases[seed], **said})
            pq.write_table(table, root / "rounds" / f"{key}.parquet")
            base_id = f"base{seed}"
            trials.append({"seed": seed, "trial_id": key, "base_id": base_id, "vanilla_id": base_id})
        stop = {"th_acc": 0.03, "th_fair": 0.0, "gap": "eodd", "enforce": False}
        config = {"rounds": 1, "select": "round:1", "stop": stop, "method": {"name": "vanilla"}} | settings
        entries.append({"label": label, "settings": settings, "config": config, "trials": trials})
    definition = {"format": 1, "name": root.name, "arms": entries, "data": {}, "test_reveals": 0}
    (root / "sweep.json").write_text(json.dumps(definition))
    return root
