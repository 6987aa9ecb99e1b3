"""A scoring pass, from the store to the channels' scores, against the forward passes up to the layer alone.

Run: python -m benchmarks.scoring_pass [--samples N] [--batch N] [--size S] [--repeats N]
VGG-11's last convolution and one in its middle, batches from the store. The forward passes are those of the network cut
off after the layer, on one resident batch. Beside it the number of modules behind the layer that were called. Goal: at
most 1.1 times.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.measure import arguments, in_turns, tell
from benchmarks.stores import CLASSES, random_store, train_of
from scp_ray.allocator import keep_freed_memory
from scp_ray.backbones.base import backbones
from scp_ray.criteria.snnl import SNNL
from scp_ray.data.batches import place, scoring_batches
from scp_ray.parts import Learner, PrunableLayer

THREADS = 2


def main() -> None:
    """Measure both layers and print the ratios."""
    gpu = torch.cuda.is_available()
    options = arguments(__doc__ or "", samples=4096 if gpu else 128, batch=128 if gpu else 64, size=128, repeats=5)
    keep_freed_memory()  # as the processes of trials do
    torch.set_num_threads(THREADS)
    device = torch.device("cuda" if gpu else "cpu")
    learner = Learner(*backbones.get("vgg11")().build(CLASSES, image_size=options.size, seed=0)).to(device)
    criterion = SNNL(batch_size=options.batch)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "random.arrow"
        random_store(path, options.samples, options.size)
        batches = scoring_batches(place(train_of(path), device), options.batch)
        image = next(iter(batches)).image
        for layer in (learner.layers[-1], learner.layers[3]):
            network = cut_off(learner, layer).eval()

            def alone(network: nn.Sequential = network) -> None:
                with torch.no_grad():
                    for _ in range(len(batches)):
                        network(image)

            scoring, forward = in_turns(
                partial(criterion.score, learner, layer, batches),
                alone,
                repeats=options.repeats,
            )
            calls = calls_behind(learner, layer, partial(criterion.score, learner, layer, batches))
            tell(what=f"scoring_pass_{layer.index}", layer=layer.name, channels=layer.channels, samples=options.samples,
                 size=options.size, scoring_s=round(scoring, 3), forward_s=round(forward, 3),
                 ratio=round(scoring / forward, 3), calls_behind=calls, goal=1.1)  # fmt: skip


def cut_off(learner: Learner, layer: PrunableLayer) -> nn.Sequential:
    """VGG's chain of layers up to the convolution."""
    features = learner.network.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    return features[: int(layer.name.rpartition(".")[2]) + 1]


def calls_behind(learner: Learner, layer: PrunableLayer, work: Callable[[], object]) -> int:
    """How often a module that comes after the layer is called while the work is done."""
    leaves = [module for module in learner.network.modules() if not list(module.children())]
    behind = leaves[leaves.index(learner.network.get_submodule(layer.name)) + 1 :]
    calls: list[nn.Module] = []
    handles = [module.register_forward_pre_hook(lambda module, _: calls.append(module)) for module in behind]
    work()
    for handle in handles:
        handle.remove()
    return len(calls)


if __name__ == "__main__":
    main()
