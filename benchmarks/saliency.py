"""Squared per-sample gradients of VGG-11 against a backward pass a sample, and against vmap over per-sample gradients.

Run: python -m benchmarks.saliency [--samples N] [--few N] [--size N]
FairPrune is run whole, in a process of its own, on N images of each group: its peak memory should stay under 6 GB. The
time that an image takes is compared in turns with both alternatives, which are given fewer. Goal: at most 3 times the
better one's.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from benchmarks.measure import arguments, in_turns, seconds, tell
from scp_ray.backbones.base import backbones
from scp_ray.maths.saliency import add_curvature_
from scp_ray.maths.weight_ranking import layer_sparsity
from scp_ray.methods.fairprune import FairPrune
from scp_ray.methods.unstructured import CHUNK
from scp_ray.parts import Batch, Learner

CLASSES = 114
TOGETHER = 2  # images of one vmap: each holds a gradient of 517 MB


def main() -> None:
    """Measure the whole in a child, then both ways of scoring in turns."""
    if len(sys.argv) == 4 and sys.argv[1] == "--whole":
        _whole(int(sys.argv[2]), int(sys.argv[3]))
        return
    options = arguments(__doc__ or "", samples=256, few=8, size=64)
    command = [sys.executable, "-m", "benchmarks.saliency", "--whole", str(options.samples), str(options.size)]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    whole, peak, sparsity = map(float, run.stdout.split())
    together, loop, mapped = _seconds_an_image(options.few, options.size)
    tell(what="saliency", samples=2 * options.samples, size=options.size, whole_s=round(whole, 1),
         peak_gb=round(peak, 2), goal_gb=6, sparsity=round(sparsity, 6), image_ms=round(1000 * together, 1),
         loop_image_ms=round(1000 * loop, 1), vmap_image_ms=round(1000 * mapped, 1),
         ratio=round(together / min(loop, mapped), 3), goal=3)  # fmt: skip


def _learner(size: int) -> Learner:
    return Learner(*backbones.get("vgg11")().build(CLASSES, image_size=size, seed=0)).eval()


def _batch(count: int, size: int) -> Batch:
    stream = torch.Generator().manual_seed(0)
    group = torch.arange(count) % 2
    image = torch.rand(count, 3, size, size, generator=stream)
    return Batch(image, torch.randint(CLASSES, (count,), generator=stream), group, group[:, None])


def _whole(samples: int, size: int) -> None:
    """Print the seconds of FairPrune, this process's peak memory in GB and the share of weights masked."""
    learner, batch = _learner(size), _batch(2 * samples, size)
    learner.privileged_code = 1  # type: ignore[assignment]
    took = seconds(lambda: FairPrune(samples=samples).finish_(learner, [batch]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    shares = layer_sparsity(learner)
    sizes = {name: learner.get_submodule(name).weight.numel() for name in shares}  # type: ignore[operator]
    print(took, peak, sum(shares[name] * sizes[name] for name in shares) / sum(sizes.values()))


def _seconds_an_image(few: int, size: int) -> tuple[float, float, float]:
    """Ours on a chunk of images, the alternatives on a few."""
    learner, batch = _learner(size), _batch(max(CHUNK, few), size)
    weights = {name: p.detach() for name, p in learner.named_parameters() if name.endswith("weight")}
    others = {name: p.detach() for name, p in learner.named_parameters() if name not in weights}
    sums: dict[str, Tensor] = {}
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    stream = torch.Generator().manual_seed(0)

    def ours() -> None:
        image, label = batch.image[:CHUNK], batch.label[:CHUNK]
        add_curvature_(sums, learner, learner.weighted_logits, image, label, generator=stream)

    def loss(given: Mapping[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = functional_call(learner, {**given, **others}, (image[None],))
        return functional.cross_entropy(logits, label[None])

    def loop() -> None:
        live = [learner.get_parameter(name) for name in totals]
        for image, label in zip(batch.image[:few], batch.label[:few], strict=True):
            value = functional.cross_entropy(learner(image[None]), label[None])
            for total, gradient in zip(totals.values(), torch.autograd.grad(value, live), strict=True):
                total.addcmul_(gradient, gradient)

    def mapped() -> None:
        every = vmap(grad(loss), in_dims=(None, 0, 0))
        for start in range(0, few, TOGETHER):
            part = slice(start, min(start + TOGETHER, few))
            for name, gradients in every(weights, batch.image[part], batch.label[part]).items():
                for gradient in gradients:
                    totals[name].addcmul_(gradient, gradient)

    took = in_turns(ours, loop, mapped, repeats=3)
    return took[0] / CHUNK, took[1] / few, took[2] / few


if __name__ == "__main__":
    main()
