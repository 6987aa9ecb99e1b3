"""Batches from decoded splits: whole batches on the device, no worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from scp_ray.data.augment import augment
from scp_ray.parts import Batch, Split, TrainPlan
from scp_ray.seeds import derive_seed

T = TypeVar("T")
GPU_SHARE = 0.25  # of a GPU's free memory that one split's images may take


def place(split: Split, device: torch.device) -> Split:
    """The split for use on ``device``; made once per device and kept for the process.

    Labels and attributes move there, and the images where they fit; others stay mapped from the store, and are
    brought over batch by batch.
    """
    return split if device.type == "cpu" else _placed(_Same(split), device)


def fits(split: Split, device: torch.device) -> bool:
    """Whether the images may lie there: on a GPU within a share of what is free, since the network comes on top."""
    if device.type != "cuda":
        return True
    return split.image.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]


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
    image = split.image.to(device) if fits(split, device) else split.image
    return Split(image, split.label.to(device), split.attributes.to(device), id=split.id, unit=split.unit)


class _Raw(NamedTuple):
    """Rows of a split, on the device that its labels are on."""

    image: Tensor  # (N, 3, S, S) uint8
    label: Tensor
    attributes: Tensor


def _raw_batches(split: Split, batches: Iterable[Tensor]) -> Iterator[_Raw]:
    """The batches of rows; images that lie elsewhere are fetched while the one before is worked on."""
    device = split.label.device
    made = (_raw(split, rows, device) for rows in batches)
    return made if split.image.device == device else ahead(made)


def _raw(split: Split, rows: Tensor, device: torch.device) -> _Raw:
    there = rows.to(device, non_blocking=True)  # a training step is not waited for before the next batch is asked for
    return _Raw(*(_brought(part, rows, there) for part in _parts(split)))


def _parts(split: Split) -> tuple[Tensor, Tensor, Tensor]:
    return split.image, split.label, split.attributes


def _brought(part: Tensor, rows: Tensor, there: Tensor) -> Tensor:
    """Its rows on the device of ``there``, which are the same rows."""
    if part.device == there.device:
        return part.index_select(0, there)
    chosen = part.index_select(0, rows)
    return (chosen.pin_memory() if there.device.type == "cuda" else chosen).to(there.device, non_blocking=True)


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items in the same order, each made in a thread while the one before is used."""
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="scp_ray batches") as thread:
        coming = thread.submit(next, source, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, source, None)
            yield item


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
        for raw in _raw_batches(self.split, torch.split(order[: count - count % size], size)):
            image = augment(raw.image, self.plan.augment, generator)
            yield Batch(image, raw.label, raw.attributes[:, 0], raw.attributes)


@dataclass(frozen=True)
class FixedBatches:
    """The same batches at every iteration: for evaluation and scoring."""

    split: Split
    order: Tensor  # (M,) rows
    batch_size: int

    def __iter__(self) -> Iterator[Batch]:
        return map(_batch, _raw_batches(self.split, torch.split(self.order, self.batch_size)))

    def __getitem__(self, index: int) -> Batch:
        rows, device = torch.split(self.order, self.batch_size)[index], self.split.label.device
        return _batch(_raw(self.split, rows, device))

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    @property
    def sizes(self) -> list[int]:
        """Of every batch, in order."""
        return [len(rows) for rows in torch.split(self.order, self.batch_size)]


def _batch(raw: _Raw) -> Batch:
    return Batch(raw.image.float().div_(255), raw.label, raw.attributes[:, 0], raw.attributes)


def eval_batches(split: Split, batch_size: int = 256) -> FixedBatches:
    """All rows in the split's order."""
    return FixedBatches(split, torch.arange(len(split)), batch_size)


def scoring_batches(
    split: Split,
    batch_size: int,
    *,
    order: Literal["permuted", "table"] = "permuted",
    last_batch: Literal["half", "drop"] = "half",
    scope: Literal["batch", "dataset"] = "batch",
) -> FixedBatches:
    """The batches that channels are scored on; ``scoring_order`` says which rows."""
    rows = scoring_order(len(split), batch_size, order=order, last_batch=last_batch, scope=scope)
    return FixedBatches(split, rows, batch_size)


def scoring_order(
    count: int, batch_size: int, *, order: str = "permuted", last_batch: str = "half", scope: str = "batch"
) -> Tensor:
    """Rows (M,) to score on, M <= count: one fixed permutation, the same for every seed and arm.

    ``table`` keeps the table's order. A short last batch counts from half the size on ("half") or never ("drop");
    the only batch always counts. Of the ``dataset`` as one batch every row counts, in the table's order.
    """
    rows = torch.arange(count)
    if scope == "dataset":
        return rows
    if order == "permuted":
        rows = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(0, "scoring")))
    left = count % batch_size
    if count > batch_size and left and (last_batch == "drop" or 2 * left < batch_size):
        rows = rows[: count - left]
    return rows
