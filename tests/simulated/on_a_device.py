"""Whole trials on the CPU and on the simulated device: python on_a_device.py LIBRARY < cases.json > answers.json

A case is the configuration of a trial. Answered are the largest differences of logits, base model and rounds; whether
the same channels were pruned; and how often a GPU would have been waited for in an epoch of two and of four steps.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import simulated_device
from every_method import train

from scp_ray.assembly import build_learner, train_feed
from scp_ray.config import TrialConfig
from scp_ray.loop.fit import fit_
from scp_ray.parts import state_to_cpu
from scp_ray.trial import BaseModel, Result, run_trial


def main() -> None:
    """Answer every case."""
    torch.set_num_threads(1)
    simulated_device.register(Path(sys.argv[1]))
    json.dump([answer(TrialConfig.from_dict(case)) for case in json.load(sys.stdin)], sys.stdout)


def answer(config: TrialConfig) -> dict[str, Any]:
    """Of one trial."""
    here, there = (trial_on(device, config) for device in ("cpu", "sim"))
    apart = [float((one - other).abs().max()) for (_, one), (_, other) in zip(here, there, strict=True)]
    return {
        "rounds": len(here) - 1,
        "apart": apart,
        "same_channels": [one for one, _ in here] == [other for other, _ in there],
        "waits": [waits_in_an_epoch(config, steps) for steps in (2, 4)],
    }


def trial_on(device: str, config: TrialConfig) -> list[tuple[Any, torch.Tensor]]:
    """Pruned channels and logits on validation and test of each round, the base model's first."""
    base, states, _ = train(config, device=device)
    found: list[tuple[Any, torch.Tensor]] = [(None, torch.cat([base.val.logits, base.test.logits]))]
    model = BaseModel(state_to_cpu(base.learner.state_dict()), base.val.report)
    for event in run_trial(config, model, device=device, bases=states):
        if isinstance(event, Result):
            assert event.round is not None
            found.append((event.round.channels, torch.cat([event.val.logits, event.test.logits])))
    return found


def waits_in_an_epoch(config: TrialConfig, steps: int) -> int:
    """Of so many steps of fine-tuning."""
    device, data = torch.device("sim"), config.dataset.load()
    _, states, _ = train(config)
    learner = build_learner(config, data, states).to(device)
    plan = replace(config.fine_tune, batch_size=len(data.splits["train"]) // steps)
    feed = train_feed(config, plan, data, device)
    before = simulated_device.waits()
    fit_(learner, feed, plan, seed=1)
    return simulated_device.waits() - before


if __name__ == "__main__":
    main()
