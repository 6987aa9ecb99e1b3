"""Two scorers against one: SNNL of VGG-11's last convolution, one torch thread each.

Run: python -m benchmarks.scorers [--samples N] [--size N] [--batch N] [--repeats N]
Both pools stay alive and score in turns, as a trial's do round after round; what is timed is everything that a scoring
takes, the transport of 0.5 GB of weights to every scorer included. Goal on 2 cores: at least 1.8 times.
"""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.measure import arguments, in_turns, tell
from scp_ray.assembly import build_learner
from scp_ray.config import TrialConfig
from scp_ray.data.batches import scoring_batches
from scp_ray.tune.pool import HERE
from scp_ray.tune.scorers import Scorers
from scp_ray.tune.sweep import connected


def main() -> None:
    """Both pools score the same model in turns."""
    options = arguments(__doc__ or "", samples=384, size=128, batch=32, repeats=3)
    torch.set_num_threads(1)
    images = {"image_size": options.size, "train": options.samples, "val": 16, "test": 16}
    criterion = {"name": "snnl", "batch_size": options.batch}
    trial = {"dataset": {"name": "synthetic", **images}, "backbone": "vgg11", "criterion": criterion, "pr_c": 0.1}
    config = TrialConfig.from_dict(trial)
    data = config.dataset.load()
    learner = build_learner(config, data, {})
    batches = scoring_batches(data.splits["train"], options.batch)
    with connected(None, num_cpus=3):
        pools = [Scorers(config, count) for count in (1, 2)]
        runs = [partial(pool.score, config.criterion, learner, learner.layers[-1], batches) for pool in pools]
        while [len(pool.tally) for pool in pools] != [1, 2]:  # all processes are there
            assert torch.equal(*(run() for run in runs))
        one, two = in_turns(*runs, repeats=options.repeats)
        assert all(HERE not in pool.tally for pool in pools)
        for pool in pools:
            pool.close()
    tell(what="scorers", samples=options.samples, size=options.size, batch=options.batch, one_s=round(one, 2),
         two_s=round(two, 2), ratio=round(one / two, 3), goal=1.8)  # fmt: skip


if __name__ == "__main__":
    main()
