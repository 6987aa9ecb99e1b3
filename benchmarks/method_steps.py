"""A training step of each base method against one of vanilla.

Run: python -m benchmarks.method_steps [--image-size 96] [--batch 32] [--backbone resnet18]
Methods that only prune a trained model (fairprune, obd, me-fairprune) train as that model does, so they have no line.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch

from benchmarks.measure import seconds, tell
from scp_ray.backbones.base import backbones
from scp_ray.methods.base import Method, all_needs, methods
from scp_ray.modes import drawing_from
from scp_ray.parts import Batch, FairnessData, Learner, Network, Split, TrainPlan

CLASSES = 8
STEPS = 7


def main() -> None:
    """Steps in turns: one of each method, again and again; the median of each over vanilla's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    batch = random_batch(options.batch, options.image_size)
    steps = {
        name: step_of(methods.get(name)(), options.backbone, batch)
        for name in methods.names()
        if name not in methods.joined and not methods.get(name).post_hoc
    }
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(STEPS):
        for name, step in steps.items():
            times[name].append(seconds(step))
    vanilla = statistics.median(times["vanilla"])
    setting = {"backbone": options.backbone, "image_size": options.image_size, "batch": options.batch}
    for name, each in times.items():
        median = statistics.median(each)
        tell(what="step", method=name, **setting, ms=round(1e3 * median), over_vanilla=round(median / vanilla, 2))


def random_batch(count: int, size: int) -> Batch:
    """Noise in every class and both groups."""
    generator = torch.Generator().manual_seed(0)
    row = torch.arange(count)
    group = row // CLASSES % 2
    return Batch(torch.rand(count, 3, size, size, generator=generator), row % CLASSES, group, group[:, None])


def step_of(method: Method, backbone: str, batch: Batch) -> Callable[[], object]:
    """One training step on the batch, of a fresh learner with fresh optimizers."""
    image = (batch.image * 255).to(torch.uint8)
    split = Split(image, batch.label, batch.attributes, ("",) * len(image), ("",) * len(image))
    names = tuple(str(code) for code in range(CLASSES))
    data = FairnessData("noise", names, ("group",), 0, {"train": split, "val": split, "test": split})

    def network(outputs: int = CLASSES) -> Network:
        return backbones.get(backbone)().build(outputs, image_size=image.shape[-1], seed=0)

    with drawing_from(0):
        bases: dict[str, Learner] = {}
        for needed in all_needs(method):
            bases[needed.plugin_name] = needed.build(network, data, bases)
        learner = method.build(network, data, bases).train()
    optimizers = learner.optimizers(TrainPlan())
    learner.begin_epoch_(1, 2)
    return lambda: learner.training_step_(batch, optimizers, torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
