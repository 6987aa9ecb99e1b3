"""What a model costs: parameters, multiply-accumulates, milliseconds."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

WARM_UP, CALLS = 3, 31

Call = Callable[..., Tensor]  # images (N, 3, S, S), and groups (N,) where it needs them, to logits (N, K)


@dataclass(frozen=True)
class Size:
    """Of one model."""

    parameters: int  # entries of all weights, biases and affine parts
    nonzero: int  # those of them that are not 0
    macs: int  # multiply-accumulates of convolutions and linear layers, for one image


def size_of(model: nn.Module, inputs: Sequence[Tensor]) -> Size:
    """Parameters and multiply-accumulates; ``inputs`` are those of one image.

    The count is torch's own (two floating-point operations are one multiply-accumulate): biases, norms, activations
    and pools are not in it.
    """
    parameters = list(model.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return Size(
        parameters=sum(part.numel() for part in parameters),
        nonzero=sum(int(part.count_nonzero()) for part in parameters),
        macs=counter.get_total_flops() // 2,
    )


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of one image's forward pass."""

    before_ms: float
    after_ms: float
    calls: int
    threads: int
    machine: str


def latency(before: Call, after: Call, inputs: Sequence[Tensor], calls: int = CALLS) -> Latency:
    """Both in turn, so that what else the machine does is met by both."""
    taken: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for index in range(WARM_UP + calls):
            for call, times in zip((before, after), taken, strict=True):
                started = time.perf_counter()
                call(*inputs)
                if index >= WARM_UP:
                    times.append(1000 * (time.perf_counter() - started))
    first, second = (statistics.median(times) for times in taken)
    return Latency(first, second, calls=calls, threads=torch.get_num_threads(), machine=machine())


def machine() -> str:
    """The processor by name, the system, torch's version."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.machine())}, {platform.system()}, torch {torch.__version__}"
