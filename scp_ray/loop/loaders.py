"""A caller's loaders as batches, each looked at for what it gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from scp_ray.criteria.base import Criterion
from scp_ray.data.batches import scoring_order
from scp_ray.errors import DataError
from scp_ray.parts import Batch

Loader = Iterable[Any]  # of (image (N,C,H,W), label (N,), group (N,))
WANTED = "(image, label, group): tensors (N, C, H, W), (N,) and (N,)"
_NAMES = ("image", "label", "group")


@dataclass(frozen=True)
class Batches:
    """A loader as batches on a device, from the start at every iteration.

    Raises DataError for a batch that is not (image, label, group), or of other shapes or types.
    """

    loader: Loader
    name: str  # train or val, for messages
    device: torch.device

    def __iter__(self) -> Iterator[Batch]:
        for each in self.loader:
            yield self._batch(each).to(self.device)

    def for_scores(self, criterion: Criterion) -> Batches:
        """The same samples in the criterion's own order and batches, where the loader lets them be chosen."""
        known = self.loader
        if not isinstance(known, DataLoader) or isinstance(known.dataset, IterableDataset):
            return self
        count = len(known.dataset)  # type: ignore[arg-type]
        size, last_batch = criterion.batch_size, criterion.last_batch
        rows = scoring_order(count, size, order=criterion.order, last_batch=last_batch, scope=criterion.scope)
        ordered = DataLoader(known.dataset, size, sampler=rows.tolist(), collate_fn=known.collate_fn)
        return Batches(ordered, self.name, self.device)

    def _batch(self, given: Any) -> Batch:
        if not isinstance(given, tuple | list) or len(given) != 3:
            raise self._error(f"gives {_kind(given)}")
        for part, name in zip(given, _NAMES, strict=True):
            if not isinstance(part, Tensor):
                how = ". Make a tensor of it, torch.from_numpy say" if hasattr(part, "__array__") else ""
                raise self._error(f"gives {_kind(part)} as {name}", how)
        image, label, group = given
        if image.ndim != 4 or not label.shape == group.shape == image.shape[:1]:
            raise self._error(f"gives {', '.join(f'{n} {tuple(p.shape)}' for n, p in zip(_NAMES, given, strict=True))}")
        if not image.is_floating_point():
            how = ". Divide by 255" if image.dtype == torch.uint8 else ""
            raise self._error(f"gives images of {_dtype(image)}, and the network needs float, in [0, 1] say", how)
        for part, name in ((label, "label"), (group, "group")):
            if part.is_complex() or (part.is_floating_point() and not bool((part == part.trunc()).all())):
                raise self._error(f"gives values of {name} that are no whole numbers", "; label and group are codes")
        group = group.long()
        return Batch(image, label.long(), group, group[:, None])

    def _error(self, came: str, how: str = "") -> DataError:
        return DataError(f"{self.name} {came}; wanted are batches of {WANTED}{how}.")


def shown(image: Tensor) -> str:
    """ "1 x 32 x 32, float32": what one image of a batch is."""
    return f"{' x '.join(map(str, image.shape[1:]))}, {_dtype(image)}"


def _kind(given: Any) -> str:
    if isinstance(given, tuple | list):
        return f"{len(given)} parts ({', '.join(type(part).__name__ for part in given)})"
    if isinstance(given, Mapping):
        return f"a mapping of {', '.join(map(str, given))}"
    return f"a {type(given).__name__}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
