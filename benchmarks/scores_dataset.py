"""Exact scores of all samples as one batch: against the whole matrix of pairs, and at full size.

Run: python -m benchmarks.scores_dataset [--samples N] [--scored N] [--few N]
First, on so few samples that the matrix fits, tiles and ``snnl_scores`` take turns. Then 512 channels of N maps of
8 x 8 are written to the scratch file, those of two batches by VGG-11 at 128 px, the others drawn, and some channels are
scored, in a process of its own: what it takes per channel, and the most private memory beyond that of the process that
holds the model. Goal: under 1 GB.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import torch

from benchmarks.measure import arguments, in_turns, seconds, tell
from scp_ray.backbones.base import backbones
from scp_ray.criteria.snnl import SNNL
from scp_ray.map_file import MapFile
from scp_ray.maths.snnl import snnl_scores
from scp_ray.maths.snnl_tiled import snnl_scores_tiled
from scp_ray.parts import Batch, Learner

BATCH = 128
IMAGE, SIDE, CHANNELS = 128, 8, 512  # of VGG-11 and its last layer
LABELLINGS = 101  # one and its permutations


def main() -> None:
    """Compare where both fit, then measure the full size in a child."""
    if len(sys.argv) == 4 and sys.argv[1] == "--whole":
        _whole(*map(int, sys.argv[2:]))
        return
    options = arguments(__doc__ or "", samples=13_000, scored=16, few=3_000)
    maps, group = torch.randn(options.few, 2, SIDE**2), (torch.rand(LABELLINGS, options.few) < 0.3).long()
    tiled, whole, many = in_turns(
        lambda: snnl_scores_tiled(maps, group[0]),
        lambda: snnl_scores(maps, group[0]),
        lambda: snnl_scores_tiled(maps, group),
        repeats=3,
    )
    difference = (snnl_scores_tiled(maps, group[0]).float() / snnl_scores(maps, group[0]) - 1).abs().max().item()
    tell(what="scores_dataset", samples=options.few, tiled_channel_s=round(tiled / 2, 3), ratio=round(tiled / whole, 3),
         labellings=LABELLINGS, labellings_ratio=round(many / tiled, 2), relative_difference=difference)  # fmt: skip
    numbers = [str(options.samples), str(options.scored)]
    command = [sys.executable, "-m", "benchmarks.scores_dataset", "--whole", *numbers]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    writing, channel, forward, scoring = map(float, run.stdout.split())
    tell(what="scores_dataset_whole", samples=options.samples, channels=CHANNELS, side=SIDE, scored=options.scored,
         writing_s=round(writing, 1), channel_s=round(channel, 3), forward_mb=round(forward), scoring_mb=round(scoring),
         goal_mb=1000)  # fmt: skip


def _whole(samples: int, scored: int) -> None:
    """Print the seconds of writing drawn maps and of a channel, and the private MB of forward passes and scores."""
    learner = Learner(*backbones.get("vgg11")().build(2, image_size=IMAGE, seed=0)).eval()
    criterion, group = SNNL(scope="dataset", batch_size=BATCH), torch.arange(samples) % 3 // 2
    criterion.block_scores(torch.randn(20, 1, 4), torch.arange(20)[None] % 2)  # what torch loads on first use

    def drawn(count: int) -> torch.Tensor:
        return torch.randn(count, CHANNELS, SIDE**2)

    def forward() -> None:
        for rows in torch.split(torch.arange(min(samples, 2 * BATCH)), BATCH):
            image = torch.rand(len(rows), 3, IMAGE, IMAGE)
            file.append(
                criterion.maps(learner, learner.layers[-1], Batch(image, group[rows], group[rows], group[rows, None]))
            )

    def write() -> None:
        for rows in torch.split(torch.arange(file.samples, samples), BATCH):
            file.append(drawn(len(rows)))

    def score() -> None:
        for block in criterion.blocks(scored, samples, SIDE**2):
            criterion.block_scores(file.block(block), group[None])

    with MapFile() as file, _Peak() as forwards:
        file.check_space(samples, drawn(1))
        forward()
        with _Peak(forwards.before) as scores:
            writing, scoring = seconds(write), seconds(score)
    print(writing, scoring / scored, forwards.megabytes, scores.megabytes)


class _Peak:
    """The most private memory, of files too, that this process has beyond what it had before, asked every 10 ms."""

    def __init__(self, before: int | None = None) -> None:
        self.before = _private() if before is None else before

    def __enter__(self) -> _Peak:
        self._done, self._most = threading.Event(), self.before
        self._watch = threading.Thread(target=self._run)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()

    def _run(self) -> None:
        while not self._done.wait(0.01):
            self._most = max(self._most, _private())

    @property
    def megabytes(self) -> float:
        return (self._most - self.before) / 1e6


def _private() -> int:
    text = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text()
    return 1024 * sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", text, re.M))


if __name__ == "__main__":
    main()
