"""A trial's scorers: Ray actors that share its scoring, for as long as the trial runs.

Batches are dealt whole, and what they say is put together in their order; where all samples are one batch, blocks of
channels are. So the scores are the same, bit for bit, however many scorers there are, whichever of them die, and
whoever is slow.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import ray
import torch
from torch import Tensor

from scp_ray.assembly import State, build_learner
from scp_ray.config import TrialConfig
from scp_ray.criteria.base import BatchwiseCriterion, Criterion, DatasetwiseCriterion
from scp_ray.data.batches import FixedBatches
from scp_ray.errors import ResourceError
from scp_ray.maths.masks import load_masked_state_
from scp_ray.modes import evaluating
from scp_ray.parts import Learner, PrunableLayer
from scp_ray.terminal import Progress, silent
from scp_ray.tune.pool import Asked, Pool
from scp_ray.tune.scorer import Lost, Request, Scorer, Setup, as_arrays, as_tensors, block_scores, cut, data_seen

ROUNDS = 4  # of maps that are lost and made again

log = logging.getLogger(__name__)


class Own(NamedTuple):
    """What this process scores with itself."""

    learner: Learner
    batches: FixedBatches


class Scorers:
    """Up to ``count`` actors, started by the first scoring; ``close`` ends them."""

    def __init__(
        self,
        config: TrialConfig,
        count: int,
        *,
        bases: Callable[[], Mapping[str, State]] = dict,
        threads: int = 1,
        device: str = "auto",
        gpus: float = 0.0,
        progress: Progress = silent,
    ) -> None:
        """Starts nothing yet.

        Args:
            config: of the trial, whose data and learner every actor makes for itself.
            count: of actors; with 0 everything is scored in this process.
            bases: gives the weights of the base models that the method needs.
            threads: torch threads of the trial.
            device: auto, cpu or cuda: of actors that are given a GPU; others use the CPU.
            gpus: GPU share of each actor.
            progress: told of what is done.
        """
        self._config, self._count, self._bases = config, count, bases
        self._threads, self._device, self._gpus = threads, device, gpus
        self._setup: Setup | None = None
        self._pool = Pool(count, gpus, progress)

    @property
    def tally(self) -> Counter[str]:
        """Pieces of work done by each process: batches scored; under ``scope: dataset`` maps of batches, and blocks."""
        return self._pool.tally

    def close(self) -> None:
        """End every actor."""
        self._pool.close()

    def score(
        self,
        criterion: Criterion,
        learner: Learner,
        layer: PrunableLayer,
        batches: FixedBatches,
        *,
        group: Tensor | None = None,
    ) -> Tensor:
        """As ``criterion.score``, whatever it raises included; a criterion that goes by no batches is asked here.

        Args:
            batches: the criterion's ``scoring_batches`` of the trial's training split, which the actors make as well.
        """
        if not self._count or not isinstance(criterion, BatchwiseCriterion) or not len(batches):
            return criterion.score(learner, layer, batches, group=group)
        rows = batches.split.attributes[:, 0].cpu()[batches.order][None] if group is None else group.cpu()
        setup = self._open(learner)
        request = Request(criterion, layer, [ray.put(as_arrays(learner.state_dict()))])
        with evaluating(learner):
            mine = Own(learner, batches)
            stand_in = cache(lambda: self._stand_in(setup, request, mine))
            if isinstance(criterion, DatasetwiseCriterion) and criterion.scope == "dataset":
                scores = self._whole(criterion, request, mine, stand_in, rows)
            else:
                scores = self._batchwise(criterion, request, mine, stand_in, rows)
        self._pool.rest()
        return scores[0] if group is None else scores

    def _open(self, learner: Learner) -> Setup:
        if self._setup is None:
            bases = {name: as_arrays(state) for name, state in self._bases().items()}
            seen = data_seen(self._config, self._config.dataset.load())
            self._setup = Setup(self._config, [ray.put(bases)], seen, self._threads, self._device, self._gpus)
        self._pool.open(Scorer, self._setup, wait=self._setup.on_gpu and not on_gpu(learner))
        return self._setup

    def _stand_in(self, setup: Setup, request: Request, mine: Own) -> Own:
        """For the scorers' work where none is to be had: what it gives must not tell that none was.

        A GPU gives other bits than a CPU. So the trial's learner stands in where it is on the scorers' kind of device;
        for scorers on CPUs a copy does. Raises ResourceError where they have GPUs and the trial has none.
        """
        if setup.on_gpu == on_gpu(mine.learner):
            return mine
        if setup.on_gpu:
            raise ResourceError(
                "every scorer is lost, again and again, and this process has no GPU to score on as they did. The log "
                "says why each was lost: mend that, or run this where it has a GPU as well."
            )
        data, order = self._config.dataset.load(), mine.batches.order
        bases = {name: as_tensors(arrays) for name, arrays in ray.get(setup.bases[0]).items()}
        copy = build_learner(self._config, data, bases).eval()
        load_masked_state_(copy, as_tensors(ray.get(request.weights[0])))
        return Own(copy, FixedBatches(data.splits["train"], order, mine.batches.batch_size))

    def _batchwise(
        self, criterion: BatchwiseCriterion, request: Request, mine: Own, stand_in: Callable[[], Own], rows: Tensor
    ) -> Tensor:
        """(R, C) from what each batch says."""
        whole = torch.contiguous_format  # a view would be sent with all that it is a view of
        slices = [part.clone(memory_format=whole) for part in torch.split(rows, mine.batches.batch_size, 1)]

        def part_here(index: int) -> Any:
            learner, batches = stand_in()
            return criterion.part(learner, request.layer, batches[index], slices[index])

        parts = self._pool.run(
            "scoring",
            range(len(slices)),
            lambda actor, index: Asked(actor.part.remote(request, index, slices[index])),
            part_here,
        )
        return criterion.combined([parts[index] for index in range(len(slices))], rows)

    def _whole(
        self, criterion: DatasetwiseCriterion, request: Request, mine: Own, stand_in: Callable[[], Own], rows: Tensor
    ) -> Tensor:
        """(R, C) from all maps: made batch by batch, kept in the object store, scored by blocks of channels."""
        layer, (learner, batches) = request.layer, mine
        one = FixedBatches(batches.split, batches.order[:1], 1)[0]
        size = criterion.maps(learner, layer, one).shape[2]
        blocks = criterion.blocks(layer.channels, len(batches.order), size)
        maps: dict[int, list[Any]] = {}  # references by batch, one a block
        scores: dict[int, Tensor] = {}
        group = [ray.put(rows.numpy())]

        def ask_maps(actor: Any, index: int) -> Asked:
            done, *parts = actor.maps.options(num_returns=1 + len(blocks)).remote(request, index, blocks)
            return Asked(done, parts)

        def ask_scores(actor: Any, block: int) -> Asked:
            return Asked(actor.block.remote(request, parts_of(block), group))

        def maps_here(index: int) -> list[Any]:
            learner, batches = stand_in()
            return [ray.put(part) for part in cut(criterion.maps(learner, layer, batches[index]), blocks)]

        def scores_here(block: int) -> Tensor | Lost:
            return block_scores(criterion, parts_of(block), rows, next(stand_in().learner.parameters()).device)

        def parts_of(block: int) -> list[Any]:
            return [maps[index][block] for index in range(len(batches))]

        for _ in range(ROUNDS):
            maps |= self._pool.run("maps", [i for i in range(len(batches)) if i not in maps], ask_maps, maps_here)
            left = [block for block in range(len(blocks)) if block not in scores]
            lost: set[int] = set()
            for block, answer in self._pool.run("scoring all samples", left, ask_scores, scores_here).items():
                if isinstance(answer, Lost):
                    lost.update(answer.batches)
                else:
                    scores[block] = answer
            if len(scores) == len(blocks):
                return criterion.combined_blocks([scores[block] for block in range(len(blocks))])
            log.warning("the maps of %d batches are lost with their node, and made again.", len(lost))
            maps = {index: parts for index, parts in maps.items() if index not in lost}
        log.warning("maps are lost again and again, so the trial's own process scores.")
        learner, batches = stand_in()
        return criterion.score(learner, layer, batches, group=rows)


def on_gpu(learner: Learner) -> bool:
    """Whether a learner lies on one."""
    return next(learner.parameters()).device.type != "cpu"
