"""Scores of all channels of a layer at once: against a loop over channels, and against what cannot be saved.

Run: python -m benchmarks.snnl [--channels N] [--repeats N]
128 maps of 512 channels, two threads; Eq. 1 by both distances, and the released form. The loop does the same
arithmetic, in doubles too, for one channel after the other, as the released code does; that of the released form sums
exponentials as they are. What cannot be saved are the products of matrices and the exponentials alone, of maps that lie
ready in blocks. Goals: 4 times the loop at 8 x 8, 2.5 times at 14 x 14, 50 times on a GPU; at most 1.5 times the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
    """Both forms at both sizes, the three ways in turns."""
    options = arguments(__doc__ or "", channels=512, repeats=21, threads=2)
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as the processes of trials do
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    group = (torch.arange(SAMPLES, device=device) % 3 == 0).long()
    stream = torch.Generator().manual_seed(0)
    for side in SIDES:
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
                partial(snnl_scores, maps, group, **kind),
                partial(loop, maps, group),
                limit,
                repeats=options.repeats,
            )
            tell(what=f"snnl_{name}_{side}", channels=options.channels, side=side, ms=round(1e3 * ours, 1),
                 loop_ms=round(1e3 * looped, 1), limit_ms=round(1e3 * least, 1), ratio=round(looped / ours, 2),
                 over_limit=round(ours / least, 3), goal=50 if gpu else {8: 4, 14: 2.5}[side])  # fmt: skip


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
