"""Scores of all channels of a layer at once: against a loop over channels, and against what cannot be saved.

Run: python -m benchmarks.snnl [--channels N] [--repeats N] [--processes N]
128 maps of 512 channels, two threads; Eq. 1 by both distances, and the released form. Medians over processes, of which
each takes its medians over repeats: where a process's memory lies moves all of its times. The loop does the same
arithmetic, in doubles too, for one channel after the other, as the released code does; that of the released form sums
exponentials as they are. What cannot be saved are the products of matrices and the exponentials alone, of maps that lie
ready in blocks. Goals: 4 times the loop at 8 x 8, 2.5 times at 14 x 14, 50 times on a GPU; at most 1.5 times the limit.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import arguments, in_turns, tell
from scp_ray.allocator import keep_freed_memory
from scp_ray.maths.snnl import snnl_scores

SAMPLES = 128
SIDES = (8, 14)
LIMIT_BLOCK = 2**19  # doubles of the reference's blocks: no slower than those of 2^20
RELEASED: dict[str, Any] = {"distance": "cosine", "temperature": 1.0, "self_pair": "numerator_only"}


def main() -> None:
    """Each process tells all forms at both sizes; their medians, and how far the ratios reach."""
    options = arguments(__doc__ or "", channels=512, repeats=9, threads=2, processes=5, side=0)
    torch.set_num_threads(options.threads)
    if options.side:
        for line in lines(options):
            print(json.dumps(line))
        return
    for side in SIDES:
        given = ("--side", side, "--channels", options.channels, "--repeats", options.repeats)
        words = [sys.executable, "-m", "benchmarks.snnl", *map(str, (*given, "--threads", options.threads))]
        told = [subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout for _ in range(options.processes)]
        for same in zip(*(map(json.loads, each.splitlines()) for each in told), strict=True):
            middle = {key: statistics.median(each[key] for each in same) for key in ("ms", "loop_ms", "limit_ms")}
            ratios = {key: [each[key] for each in same] for key in ("ratio", "over_limit")}
            tell(
                what=same[0]["what"],
                channels=options.channels,
                side=side,
                **{key: round(value, 1) for key, value in middle.items()},
                **{key: round(statistics.median(each), 3) for key, each in ratios.items()},
                **{f"{key}_from_to": [round(min(each), 2), round(max(each), 2)] for key, each in ratios.items()},
                goal=50 if torch.cuda.is_available() else {8: 4, 14: 2.5}[side],
            )


def lines(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Of one process: each form at one size, the three ways in turns."""
    keep_freed_memory()  # as the processes of trials do
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    group = (torch.arange(SAMPLES, device=device) % 3 == 0).long()
    stream = torch.Generator().manual_seed(0)
    side = options.side
    maps = torch.randn(SAMPLES, options.channels, side, side, generator=stream).to(device)
    limit = limit_of(maps)
    for name, loop, kind in (
        ("eq1", careful_loop, {}),
        ("cosine", partial(careful_loop, distance="cosine"), {"distance": "cosine"}),
        ("released", released_loop, RELEASED),
    ):
        difference = (loop(maps, group) - snnl_scores(maps, group, **kind)).abs().max().item()
        assert difference < 1e-5, difference
        ours, looped, least = in_turns(
            partial(snnl_scores, maps, group, **kind), partial(loop, maps, group), limit, repeats=options.repeats
        )
        times = {"ms": 1e3 * ours, "loop_ms": 1e3 * looped, "limit_ms": 1e3 * least}
        yield {"what": f"snnl_{name}_{side}"} | times | {"ratio": looped / ours, "over_limit": ours / least}


def careful_loop(maps: Tensor, group: Tensor, distance: str = "sqeuclidean") -> Tensor:
    """Eq. 1 by logarithms of sums, T the mean distance, a channel at a time."""
    samples = len(maps)
    itself = torch.eye(samples, dtype=torch.bool, device=maps.device)
    own = (group[:, None] == group) & ~itself
    scores = []
    for channel in range(maps.shape[1]):
        rows = maps[:, channel].flatten(1).double()
        if distance == "cosine":
            rows = rows / rows.norm(dim=1, keepdim=True)
        square = rows.square().sum(1)
        far = (square[:, None] + square - 2 * rows @ rows.T).clamp(min=0).masked_fill(itself, 0)
        exponents = -far / (far.sum() / (samples * (samples - 1)))
        numerator = exponents.masked_fill(~own, -math.inf).logsumexp(1)
        scores.append((exponents.masked_fill(itself, -math.inf).logsumexp(1) - numerator).mean())
    return torch.stack(scores)


def released_loop(maps: Tensor, group: Tensor) -> Tensor:
    """The released form: cosine, T = 1, the own pair in the numerator, with 1e-9 added there; sums as they are."""
    itself = torch.eye(len(maps), dtype=torch.bool, device=maps.device)
    same = group[:, None] == group
    scores = []
    for channel in range(maps.shape[1]):
        rows = maps[:, channel].flatten(1).double()
        rows = rows / rows.norm(dim=1, keepdim=True)
        weights = (rows @ rows.T - 1).exp()
        numerator = (weights * same).sum(1) + 1e-9
        scores.append((weights.masked_fill(itself, 0).sum(1) / numerator).log().mean())
    return torch.stack(scores)


def limit_of(maps: Tensor) -> Callable[[], None]:
    """Per block as large as ours: the product of the maps, an exponential a pair, the product with two groups."""
    samples, channels, size = *maps.shape[:2], maps[0, 0].numel()
    rows = maps.transpose(0, 1).flatten(2).double() / size**0.5
    blocks = [block.contiguous() for block in rows.split(max(1, LIMIT_BLOCK // (samples * max(samples, size))))]
    weights = torch.rand(channels, 2, samples, dtype=torch.float64, device=maps.device)

    def work() -> None:
        for block in blocks:
            torch.bmm(weights[: len(block)], torch.bmm(block, block.mT).exp_())

    return work


if __name__ == "__main__":
    main()
