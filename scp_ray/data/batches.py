"""Batches from decoded splits: whole batches on the device, no worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from scp_ray.data.augment import augment
from scp_ray.parts import Batch, Split, TrainPlan
from scp_ray.seeds import derive_seed


def place(split: Split, device: torch.device) -> Split:
    """The split with its tensors on ``device``; made once per device and kept for the process."""
    return split if device.type == "cpu" else _placed(_Same(split), device)


@dataclass(frozen=True, eq=False)
class _Same:
    """Hashed by the split's identity: a split of images is neither compared nor hashed by content."""

    split: Split

    def __hash__(self) -> int:
        return id(self.split)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.split is self.split


@lru_cache(maxsize=6)
def _placed(same: _Same, device: torch.device) -> Split:
    split = same.split
    return Split(
        split.image.to(device), split.label.to(device), split.attributes.to(device), id=split.id, unit=split.unit
    )


def _batch(split: Split, rows: Tensor) -> Batch:
    rows = rows.to(split.image.device)
    attributes = split.attributes[rows]
    return Batch(split.image[rows].float() / 255, split.label[rows], attributes[:, 0], attributes)


@dataclass(frozen=True)
class TrainFeed:
    """Training batches of an epoch, the same for the same (seed, epoch).

    A last batch shorter than ``batch_size`` is dropped (the released recipe), unless it is the only one.
    """

    split: Split
    plan: TrainPlan
    weights: Tensor | None  # (N,) drawn with replacement in proportion to it; None: each sample once

    def __call__(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Draw the epoch's order, then cut, convert and augment batch by batch."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "batches", epoch))
        count = len(self.split)
        if self.weights is None:
            order = torch.randperm(count, generator=generator)
        else:
            order = torch.multinomial(self.weights.cpu(), count, replacement=True, generator=generator)
        size = min(self.plan.batch_size, count)
        for start in range(0, count - size + 1, size):
            batch = _batch(self.split, order[start : start + size])
            yield batch._replace(image=augment(batch.image, self.plan.augment, generator))


@dataclass(frozen=True)
class FixedBatches:
    """The same batches at every iteration: for evaluation and scoring."""

    split: Split
    order: Tensor  # (M,) rows
    batch_size: int

    def __iter__(self) -> Iterator[Batch]:
        for rows in torch.split(self.order, self.batch_size):
            yield _batch(self.split, rows)

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)


def eval_batches(split: Split, batch_size: int = 256) -> FixedBatches:
    """All rows in the split's order."""
    return FixedBatches(split, torch.arange(len(split)), batch_size)


def scoring_batches(
    split: Split,
    batch_size: int,
    *,
    order: Literal["permuted", "table"] = "permuted",
    last_batch: Literal["half", "drop"] = "half",
) -> FixedBatches:
    """The batches that channels are scored on; ``scoring_order`` says which rows."""
    return FixedBatches(split, scoring_order(len(split), batch_size, order=order, last_batch=last_batch), batch_size)


def scoring_order(count: int, batch_size: int, *, order: str = "permuted", last_batch: str = "half") -> Tensor:
    """Rows (M,) to score on, M <= count: one fixed permutation, the same for every seed and arm.

    ``table`` keeps the table's order. A short last batch counts from half the size on ("half") or never ("drop");
    the only batch always counts.
    """
    rows = torch.arange(count)
    if order == "permuted":
        rows = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(0, "scoring")))
    left = count % batch_size
    if count > batch_size and left and (last_batch == "drop" or 2 * left < batch_size):
        rows = rows[: count - left]
    return rows
