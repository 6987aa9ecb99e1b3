"""Evaluation of a split with all its metrics, from the store, against the forward passes alone.

Run: python -m benchmarks.evaluation [--images N] [--classes K] [--size S] [--batch N] [--repeats N]
5,000 images and 114 classes, by the tiny backbone: the smaller the network, the less the metrics can hide. The forward
passes alone are those of one resident batch. What a round's evidence adds (a permutation null and redrawn tables, once
when a round ends) stands beside it. Goal: at most 1.05 times.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.measure import arguments, in_turns, tell
from benchmarks.stores import random_store, train_of
from scp_ray.allocator import keep_freed_memory
from scp_ray.backbones.base import backbones
from scp_ray.data.batches import eval_batches, place
from scp_ray.ledger.evidence import evidence_table
from scp_ray.loop.evaluate import evaluate
from scp_ray.parts import Learner, Split

THREADS = 2


def main() -> None:
    """Evaluation, forward passes and evidence in turns."""
    options = arguments(__doc__ or "", images=5000, classes=114, size=96, batch=250, repeats=5)
    keep_freed_memory()  # as the processes of trials do
    torch.set_num_threads(THREADS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = backbones.get("tiny")().build(options.classes, image_size=options.size, seed=0)
    learner = Learner(*network).to(device).eval()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "random.arrow"
        random_store(path, options.images, options.size)
        split = place(labelled(train_of(path), options.classes), device)
        batches = eval_batches(split, options.batch)
        image = next(iter(batches)).image
        answers = evaluate(learner, batches)
        label, prediction, group = (
            part.numpy() for part in (answers.label, answers.prediction, answers.attributes[:, 0])
        )

        def whole() -> float:
            return evaluate(learner, batches).report.eodd

        def alone() -> None:
            with torch.no_grad():
                for _ in range(len(batches)):
                    learner(image)

        evaluated, forward, evidence = in_turns(
            whole,
            alone,
            lambda: evidence_table(1, "val", label, prediction, group, split.unit, num_classes=options.classes, seed=0),
            repeats=options.repeats,
        )
    tell(what="evaluation", images=options.images, classes=options.classes, size=options.size,
         evaluation_s=round(evaluated, 3), forward_s=round(forward, 3), ratio=round(evaluated / forward, 3),
         evidence_s=round(evidence, 3), goal=1.05)  # fmt: skip


def labelled(split: Split, classes: int) -> Split:
    """The same images with so many classes, in turn, and both groups in each."""
    turn = torch.arange(len(split))
    group = (turn // classes % 2)[:, None]
    return Split(split.image, turn % classes, group, split.id, split.unit)


if __name__ == "__main__":
    main()
