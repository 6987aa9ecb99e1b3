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

from scp_ray.errors import BatchTooLargeError, DataError, DivergedError
from scp_ray.maths.accumulation import accumulate_
from scp_ray.modes import drawing_from, working_in
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

    Raises:
        DivergedError: after an epoch in which a loss was not finite.
        BatchTooLargeError: the device's memory does not take a batch, or a micro-batch of it.
    """
    running = learner.optimizers(plan)
    for name, state in (optimizers or {}).items():
        running[name].load_state_dict(state)
    for epoch in range(start, plan.epochs):
        _set_learning_rates(learner, running, plan, epoch)
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

    def loss_of(part: Batch) -> Tensor:
        return functional.cross_entropy(learner(part.image, part.group), part.label)

    loss = accumulate_(loss_of, batch, learner.micro_batches)
    for optimizer in optimizers.values():
        optimizer.step()
    return {"loss": loss}


def _set_learning_rates(learner: Learner, optimizers: Mapping[str, Optimizer], plan: TrainPlan, epoch: int) -> None:
    for name in optimizers.keys() - learner.unscheduled:
        for group in optimizers[name].param_groups:
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
    try:
        # dropout draws from torch's own generator
        with drawing_from(seed, device), working_in(plan.precision, learner.network):
            for batch in batches:
                for name, value in train(batch, optimizers, generator).items():
                    recorded[name].append(value)
    except torch.OutOfMemoryError as error:
        where = f"step {len(recorded['loss']) + 1} of epoch {epoch + 1}"
        raise _too_large(learner, plan, f"{device}, at {where}", error) from error
    if not recorded:
        raise DataError("there is nothing to train on: the training split gives no batch.")
    stacked = {name: torch.stack(values) for name, values in recorded.items()}
    _check_finite(stacked, epoch)
    return {name: float(values.mean()) for name, values in stacked.items()}


def _check_finite(recorded: Mapping[str, Tensor], epoch: int) -> None:
    """Once an epoch, since looking at a number makes a GPU wait."""
    broken = {name: (~values.isfinite()).nonzero() for name, values in recorded.items()}
    steps = {name: int(where[0]) for name, where in broken.items() if len(where)}
    if not steps:
        return
    name = min(steps, key=lambda name: steps[name])  # the first to break; of several "loss", which is recorded first
    what = "loss" if name == "loss" else f"loss ({name})"
    raise DivergedError(
        f"the {what} became {recorded[name][steps[name]].item()} at step {steps[name] + 1} of epoch {epoch + 1}. "
        "Try a lower lr (train.lr of a base model, fine_tune.lr of a trial), a smaller weight of the method's own "
        "term, or check the data for broken images."
    )


def _too_large(learner: Learner, plan: TrainPlan, where: str, error: Exception) -> BatchTooLargeError:
    """What a person is told who cannot be helped by micro-batches, or not by these."""
    can_be_cut = plan.loss == "ce" or learner.cuts_batches
    size, cut = plan.batch_size, learner.micro_batches > 1
    tried = f"a training batch of {size} images" + (f", {-(-size // learner.micro_batches)} at a time," if cut else "")
    why = "" if can_be_cut else "The method's loss looks at a batch as a whole, so it is not cut into micro-batches. "
    return BatchTooLargeError(
        f"{tried} does not fit into the memory of {where}. {why}Set a smaller batch_size (train.batch_size of a base "
        "model, fine_tune.batch_size of a trial), which makes it another trial; or use a device with more memory, or "
        f"to itself. {str(error).partition(chr(10))[0]}",
        can_be_cut=can_be_cut and not cut,
    )
