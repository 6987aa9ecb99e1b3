"""Train a learner, epoch by epoch. Resumable at any epoch: every stream is derived from (seed, epoch)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from scp_ray.errors import DataError, DivergedError
from scp_ray.modes import drawing_from
from scp_ray.parts import Batch, Epoch, Learner, TrainPlan
from scp_ray.seeds import derive_seed

Feed = Callable[[int, int], Iterable[Batch]]  # (seed, epoch) -> the batches of that epoch


def fit_epochs(
    learner: Learner,
    batches: Feed,
    plan: TrainPlan,
    *,
    seed: int,
    start: int = 0,
    optimizers: Mapping[str, Any] | None = None,
) -> Iterator[Epoch]:
    """Train in place and yield after each epoch.

    Args:
        batches: called with (seed, epoch); must give the same batches for the same pair.
        seed: this fit's own stream.
        start: epochs already done, with ``optimizers`` their state dicts.

    Raises DivergedError at the first step whose loss is not finite.
    """
    running = learner.optimizers(plan)
    for name, state in (optimizers or {}).items():
        running[name].load_state_dict(state)
    for epoch in range(start, plan.epochs):
        _set_learning_rate(running, plan, epoch)
        means = _train_one_epoch(learner, batches(seed, epoch), running, plan, derive_seed(seed, "step", epoch), epoch)
        yield Epoch(epoch + 1, plan.epochs, means, running)


def fit_(learner: Learner, batches: Feed, plan: TrainPlan, *, seed: int) -> dict[str, float]:
    """Train in place to the end; returns the last epoch's mean losses."""
    means: dict[str, float] = {}
    for epoch in fit_epochs(learner, batches, plan, seed=seed):
        means = epoch.means
    return means


def cross_entropy_step_(
    learner: Learner, batch: Batch, optimizers: Mapping[str, Optimizer], generator: torch.Generator
) -> dict[str, Tensor]:
    """One step of plain cross-entropy on what the learner answers, whatever its own loss is."""
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    loss = functional.cross_entropy(learner(batch.image, batch.group), batch.label)
    loss.backward()  # type: ignore[no-untyped-call]
    for optimizer in optimizers.values():
        optimizer.step()
    return {"loss": loss.detach()}


def _set_learning_rate(optimizers: Mapping[str, Optimizer], plan: TrainPlan, epoch: int) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * plan.lr_gamma ** (epoch // plan.lr_step)


def _train_one_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    optimizers: Mapping[str, Optimizer],
    plan: TrainPlan,
    seed: int,
    epoch: int,
) -> dict[str, float]:
    learner.train()
    device = next(learner.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    recorded: defaultdict[str, list[Tensor]] = defaultdict(list)
    learner.begin_epoch_(epoch, plan.epochs)
    train = learner.training_step_ if plan.loss == "native" else partial(cross_entropy_step_, learner)
    with drawing_from(seed, device):  # dropout
        for batch in batches:
            for name, value in train(batch, optimizers, generator).items():
                recorded[name].append(value)
    if not recorded:
        raise DataError("there is nothing to train on: the training split gives no batch.")
    losses = torch.stack(recorded["loss"])
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = int(bad[0])
        raise DivergedError(
            f"the loss became {losses[step].item()} at step {step + 1} of epoch {epoch + 1}. "
            "Try a lower lr, a smaller fine_tune.lr, or check the data for broken images."
        )
    return {name: float(torch.stack(values).mean()) for name, values in recorded.items()}
