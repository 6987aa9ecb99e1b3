"""One scorer: a process, on any node, that scores whole batches for a trial."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import ObjectLostError
from torch import Tensor

from scp_ray.allocator import give_back_freed_memory, keep_freed_memory
from scp_ray.assembly import batches_of, build_learner
from scp_ray.config import TrialConfig
from scp_ray.config.identity import data_identity, data_units
from scp_ray.criteria.base import BatchwiseCriterion, DatasetwiseCriterion
from scp_ray.data.batches import FixedBatches, place
from scp_ray.devices import choose_device
from scp_ray.errors import DataError
from scp_ray.ledger.definition import data_key
from scp_ray.maths.masks import load_masked_state_
from scp_ray.parts import FairnessData, PrunableLayer

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Setup:
    """What every scorer of a trial has to know."""

    config: TrialConfig
    bases: list[Any]  # of one reference to the weights of the base models that the method needs
    data: tuple[str, ...]  # what the trial's own process has read: see data_seen
    threads: int  # torch threads of the trial
    device: str
    gpus: float  # share of a GPU that a scorer is given

    @property
    def on_gpu(self) -> bool:
        """Whether scorers use one."""
        return self.gpus > 0 and self.device != "cpu"


@dataclass(frozen=True)
class Request:
    """What is to be scored, batch by batch."""

    criterion: BatchwiseCriterion
    layer: PrunableLayer
    weights: list[Any]  # of one reference to the state dict; in a list Ray leaves it to be fetched once a process


@dataclass(frozen=True)
class Lost:
    """Batches whose maps were on a node that is gone."""

    batches: tuple[int, ...]


def data_seen(config: TrialConfig, data: FairnessData) -> tuple[str, ...]:
    """Digests of a data set's table, images and units, as they are on this node."""
    return data_key(data_identity(config.dataset)), data.sources, data_units(config.dataset)


def as_arrays(state: Mapping[str, Tensor]) -> Arrays:
    """A state dict as Ray keeps it best: mapped by all processes of a node, copied by none."""
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def as_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """The same as tensors, to be read only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return {name: torch.from_numpy(value) for name, value in arrays.items()}


class Scorer:
    """Opens the data and builds the learner once, takes new weights once a scoring."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._loaded = ""  # which weights; not the reference, which would keep them in the object store

    def open(self) -> str:
        """Be ready; returns "node:process id". Raises DataError where the data is not the trial's."""
        setup = self._setup
        keep_freed_memory()
        torch.set_num_threads(setup.threads)
        self._device = choose_device("cuda" if setup.on_gpu else "cpu")
        self._data = setup.config.dataset.load()
        if data_seen(setup.config, self._data) != setup.data:
            raise DataError(
                f"the tables or the images on {platform.node()}, where a scorer runs, are not those of its trial. Give "
                "every node the same ones, and leave them alone while a sweep runs."
            )
        bases = {name: as_tensors(arrays) for name, arrays in ray.get(setup.bases[0]).items()}
        self._learner = build_learner(setup.config, self._data, bases).to(self._device).eval()
        return f"{platform.node()}:{os.getpid()}"

    def part(self, request: Request, index: int, group: Tensor) -> Any:
        """``criterion.part`` of one batch; ``group`` (R, n) are its codes."""
        criterion = request.criterion
        self._prepare(request)
        return criterion.part(self._learner, request.layer, self._batches(criterion)[index], group)

    def maps(self, request: Request, index: int, blocks: Sequence[slice]) -> tuple[Any, ...]:
        """The maps of one batch, (n, c, D) for each block of channels, after a None that says they are there."""
        criterion = request.criterion
        assert isinstance(criterion, DatasetwiseCriterion)
        self._prepare(request)
        return None, *cut(criterion.maps(self._learner, request.layer, self._batches(criterion)[index]), blocks)

    def block(self, request: Request, parts: Sequence[Any], group: list[Any]) -> Tensor | Lost:
        """``block_scores`` of one block; ``group`` is one reference to the codes (R, N)."""
        assert isinstance(request.criterion, DatasetwiseCriterion)
        torch.set_num_threads(1)
        (rows,) = as_tensors({"rows": ray.get(group[0])}).values()
        return block_scores(request.criterion, parts, rows, self._device)

    def rest(self) -> None:
        """Leave the memory to the trial, which trains now."""
        give_back_freed_memory()
        torch.cuda.empty_cache()  # nothing where CUDA is not in use

    def _prepare(self, request: Request) -> None:
        """The request's weights, and as many threads as keep the bits.

        A forward pass gives the same bits with any number of threads, so it takes the one that the scorer's CPU is
        there for; a backward pass does not, and takes the trial's.
        """
        torch.set_num_threads(self._setup.threads if request.criterion.differentiates else 1)
        weights = request.weights[0]
        if self._loaded != weights.hex():
            self._loaded = ""
            load_masked_state_(self._learner, as_tensors(ray.get(weights)))
            self._loaded = weights.hex()

    def _batches(self, criterion: BatchwiseCriterion) -> FixedBatches:
        return batches_of(criterion, place(self._data.splits["train"], self._device))


def cut(maps: Tensor, blocks: Sequence[slice]) -> list[np.ndarray]:
    """(n, C, D) to (n, c, D) for each block of channels, each in memory of its own."""
    return [maps[:, channels].contiguous().numpy() for channels in blocks]


def block_scores(
    criterion: DatasetwiseCriterion, parts: Sequence[Any], group: Tensor, device: torch.device
) -> Tensor | Lost:
    """``criterion.block_scores`` of a block's maps, from references to those of every batch, (n, c, D) in order.

    Only the block itself, at most ``BLOCK_BYTES``, is memory of this process; the parts are mapped one by one.
    """
    block, start, lost = torch.empty(0), 0, []
    for index, reference in enumerate(parts):
        try:
            (part,) = as_tensors({"maps": ray.get(reference)}).values()
        except ObjectLostError:
            lost.append(index)
            continue
        if not len(block):  # as a MapFile lays it out: the maps of one channel lie together
            block = torch.empty(part.shape[1], group.shape[1], part.shape[2])
        block[:, start : start + len(part)] = part.transpose(0, 1)
        start += len(part)
    return Lost(tuple(lost)) if lost else criterion.block_scores(block.transpose(0, 1).to(device), group)
