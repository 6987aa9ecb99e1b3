"""The gradient of a batch's mean loss, a micro-batch at a time: the whole batch never lies in memory at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Columns = TypeVar("Columns", bound=tuple[Any, ...])  # a NamedTuple of tensors (N, ...)


def accumulate_(loss_of: Callable[[Columns], Tensor], batch: Columns, micro_batches: int = 1) -> Tensor:
    """Add the loss's gradient to the parameters' own; returns the loss, detached.

    A mean over N samples is the sum over micro-batches of n/N times their own mean, and so is its gradient: cut or
    not, the step is the same up to rounding wherever samples do not see each other. Batch norm in train mode lets
    them: it then normalises by the micro-batch.

    Args:
        loss_of: the mean loss over the samples of what it is given.
        batch: the columns (N, ...).
        micro_batches: into how many, as equal as can be, the batch is cut.
    """
    if micro_batches == 1:
        loss = loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    size, total = len(batch[0]), torch.zeros((), device=batch[0].device)
    for columns in zip(*(torch.chunk(column, micro_batches) for column in batch), strict=True):
        part = type(batch)(*columns)
        loss = loss_of(part) * (len(part[0]) / size)
        loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    return total
