"""A fine-tuning epoch, through the whole pipeline, against the same steps on one resident batch.

Run: python -m benchmarks.data_training [--steps N] [--batch N] [--size S]
The loop's own epoch: store, class-balanced sampling, the released augmentation and ResNet-18, forward, backward and
step, and what is recorded of them. Goals: at most 1.05 times the resident batch's time on a CPU, 1.1 times on a GPU in
bf16.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.measure import arguments, in_turns, tell
from benchmarks.stores import CLASSES, random_store, train_of
from scp_ray.allocator import keep_freed_memory
from scp_ray.backbones.resnet import ResNet18
from scp_ray.data.batches import TrainFeed, place
from scp_ray.loop.fit import fit_
from scp_ray.maths.balance import balanced_weights
from scp_ray.modes import working_in
from scp_ray.parts import Learner, TrainPlan


def main() -> None:
    """Measure both and print the ratio."""
    gpu = torch.cuda.is_available()
    options = arguments(__doc__ or "", steps=100 if gpu else 3, batch=256 if gpu else 64, size=128)
    keep_freed_memory()  # as the processes of trials do
    device = torch.device("cuda" if gpu else "cpu")
    network = ResNet18(weights="none").build(CLASSES, image_size=options.size, seed=0)
    learner = Learner(*network).to(device).train()
    plan = TrainPlan(batch_size=options.batch, augment="released", precision="bf16" if gpu else "float32")
    optimizers, generator = learner.optimizers(plan), torch.Generator()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "random.arrow"
        random_store(path, options.steps * options.batch, options.size)
        train = train_of(path)
        weights = balanced_weights(train.label, train.attributes[:, 0], "class")
        feed = TrainFeed(place(train, device), plan, weights)
        resident = next(iter(feed(0, 0)))

        def epoch() -> None:
            fit_(learner, feed, replace(plan, epochs=1), seed=0)

        def alone() -> None:
            with working_in(plan.precision, learner.network):
                for _ in range(options.steps):
                    learner.training_step_(resident, optimizers, generator)

        piped, bare = in_turns(epoch, alone)
    images = options.steps * options.batch
    tell(
        what="training, ResNet-18",
        batch=options.batch,
        size=options.size,
        pipeline_images_s=round(images / piped, 1),
        resident_images_s=round(images / bare, 1),
        ratio=round(bare / piped, 3),
        over_resident=round(piped / bare, 3),
        goal=0.9 if gpu else 0.95,
        **(_matrix_share(images / piped, options.size) if gpu else {}),
    )


def _matrix_share(images_s: float, size: int) -> dict[str, float]:
    """Of the card's own rate of large bf16 matrix products, measured here; a step is three forward passes of work."""
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    (took,) = in_turns(lambda: [square @ square for _ in range(20)])
    rate = 20 * 2 * 8192**3 / took
    forward = 2 * 1.814e9 * (size / 224) ** 2  # ResNet-18: 1.814 G multiply-adds at 224 px
    return {"matrix_tflops": round(rate / 1e12, 1), "share_of_matrix_rate": round(3 * forward * images_s / rate, 3)}


if __name__ == "__main__":
    main()
