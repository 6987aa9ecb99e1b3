"""Training steps on a GPU, made faster one thing after the other, and what share of the card they use.

Run: python -m benchmarks.gpu_steps [--batch N] [--size S] [--steps N] [--backbones vgg11,resnet18]
Each way does the same steps on one resident batch: plain float32; bf16 autocast; channels_last with it; and compiled,
with the seconds that compiling took and after how many steps they are paid back. Goals: the best at least 3 times plain
float32 for both backbones; VGG-11 at 40 % of the rate of large bf16 products of matrices measured here.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import arguments, in_turns, seconds, tell
from scp_ray.backbones.base import backbones

CLASSES = 8
MULTIPLY_ADDS = {"vgg11": 7.486e9, "resnet18": 1.814e9}  # features and head, of one image of 224 px


def main() -> None:
    """Every way of both backbones."""
    options = arguments(__doc__ or "", batch=256, size=128, steps=30, backbones="vgg11,resnet18", repeats=5)
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here: this figure is of one.")
    rate = matrix_rate()
    for name in options.backbones.split(","):
        ways = {
            "fp32": step_of(name, options, bf16=False, last=False),
            "bf16": step_of(name, options, bf16=True, last=False),
            "bf16_last": step_of(name, options, bf16=True, last=True),
        }
        compiled = step_of(name, options, bf16=True, last=True, compiled=True)
        compiling = seconds(compiled)
        ways["compiled"] = compiled
        works = [partial(_often, step, options.steps) for step in ways.values()]
        took = dict(zip(ways, in_turns(*works, repeats=options.repeats), strict=True))
        took = {way: each / options.steps for way, each in took.items()}
        best = min(took, key=lambda way: took[way])
        saved = took["bf16_last"] - took["compiled"]
        work = 3 * 2 * MULTIPLY_ADDS[name] * (options.size / 224) ** 2 * options.batch  # three forward passes' worth
        tell(what=f"gpu_steps_{name}", batch=options.batch, size=options.size, best=best,
             ms={way: round(1e3 * each, 2) for way, each in took.items()}, ratio=round(took["fp32"] / took[best], 2),
             compile_s=round(compiling, 1), paid_back_after_steps=round(compiling / saved) if saved > 0 else None,
             matrix_tflops=round(rate / 1e12, 1), share_of_matrix_rate=round(work / took[best] / rate, 3),
             goal=3)  # fmt: skip


def _often(step: Callable[[], None], times: int) -> None:
    for _ in range(times):
        step()


def matrix_rate() -> float:
    """Operations per second of large bf16 products."""
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    (took,) = in_turns(lambda: [square @ square for _ in range(20)])
    return 20 * 2 * 8192**3 / took


def step_of(
    name: str, options: argparse.Namespace, *, bf16: bool, last: bool, compiled: bool = False
) -> Callable[[], None]:
    """One step of a fresh network on one resident batch."""
    size, batch = options.size, options.batch
    network: nn.Module = backbones.get(name)().build(CLASSES, image_size=size, seed=0).module.cuda().train()
    image, label = torch.rand(batch, 3, size, size, device="cuda"), torch.arange(batch, device="cuda") % CLASSES
    if last:
        network, image = network.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-5)
    forward = torch.compile(network) if compiled else network
    precision = torch.autocast("cuda", torch.bfloat16) if bf16 else contextlib.nullcontext()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision:
            loss = functional.cross_entropy(forward(image), label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
