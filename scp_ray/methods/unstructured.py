"""What FairPrune and OBD share: chosen training images, one ranking over all weights, a mask for each layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from scp_ray.errors import DataError
from scp_ray.maths.saliency import add_curvature_
from scp_ray.maths.weight_ranking import balanced_rows, prune_smallest_, saliency
from scp_ray.methods.base import Method, methods
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, FairnessData, Learner, Network
from scp_ray.seeds import derive_seed

CHUNK = 32  # images scored at once
Curvatures = dict[str, Tensor]  # by name of the layer


@dataclass(frozen=True)
class UnstructuredPruning(Method):
    """Masks the share ``pr`` of all convolution and linear weights (no biases, no norms) of a trained model.

    The curvature is averaged over up to ``samples`` class-balanced training images of each group, with test transforms
    and in eval mode. ``draws`` labels are drawn for each image ("exact": all classes; "fisher": the true label).
    ``steps`` > 1 goes to ``pr`` in equal steps and measures the curvature anew before each.
    """

    pr: Annotated[float, Ge(0), Lt(1)] = 0.35
    samples: Annotated[int, Ge(1)] = 1024
    draws: Annotated[int, Ge(1)] | Literal["exact", "fisher"] = 1
    steps: Annotated[int, Ge(1)] = 1

    post_hoc = True

    @property
    def own_loss(self) -> bool:
        """Plain cross-entropy."""
        return False

    @property
    def needs(self) -> tuple[Method, ...]:
        """The trained vanilla model, which is pruned."""
        return (methods.get("vanilla")(),)

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """The trained vanilla learner itself."""
        learner = bases["vanilla"]
        self.take_(learner, data)
        return learner

    def take_(self, learner: Learner, data: FairnessData) -> None:
        """Remember on the learner, whichever method built it, what ``finish_`` has to know of the data."""

    def finish_(self, learner: Learner, train_batches: Iterable[Batch]) -> None:
        """Measure the curvature, rank and mask; ``pr`` = 0 leaves the learner as it is.

        Args:
            train_batches: all training images, the same in the same order at every iteration.

        Raises ScoreError where the network's outputs are not finite, DataError where the images are not the same again.
        """
        if self.pr == 0:
            return
        chosen = self._choose(train_batches)
        for step in range(self.steps):
            curvature = self.weigh(learner, self._measure(learner, train_batches, chosen, step))
            with torch.no_grad():
                saliencies = {
                    name: saliency(learner.get_submodule(name).weight, values)  # type: ignore[arg-type]
                    for name, values in curvature.items()
                }
            del curvature
            prune_smallest_(learner, saliencies, self.pr * ((step + 1) / self.steps))

    def part_of(self, group: int) -> int:
        """Which of the means a group's images go into: each group its own."""
        return group

    def weigh(self, learner: Learner, means: Mapping[int, Curvatures]) -> Curvatures:
        """The curvature that the saliency is made of, from the mean over the images of each part."""
        raise NotImplementedError(f"{type(self).__name__} does not define weigh().")

    def _choose(self, train_batches: Iterable[Batch]) -> Tensor:
        """(N,) the group that each image was chosen for, or -1; the same for every seed and method."""
        labels, groups = zip(*((batch.label.cpu(), batch.group.cpu()) for batch in train_batches), strict=True)
        generator = torch.Generator().manual_seed(derive_seed(0, "saliency"))
        return balanced_rows(torch.cat(labels), torch.cat(groups), self.samples, generator)

    def _measure(
        self, learner: Learner, train_batches: Iterable[Batch], chosen: Tensor, step: int
    ) -> dict[int, Curvatures]:
        """Means of the curvature over the images of each part."""
        sums: dict[int, Curvatures] = defaultdict(dict)
        counts: dict[int, int] = defaultdict(int)
        # a stream for each group, so that methods which join the groups otherwise draw the same labels
        streams = {
            code: torch.Generator().manual_seed(derive_seed(0, "saliency", "draws", step, code))
            for code in torch.unique(chosen[chosen >= 0]).tolist()
        }
        with evaluating(learner):
            for code, batch in _chunks(train_batches, chosen):
                logits_of = partial(learner.weighted_logits, group=batch.group)
                part = self.part_of(code)
                counts[part] += len(batch.label)
                add_curvature_(
                    sums[part],
                    learner,
                    logits_of,
                    batch.image,
                    batch.label,
                    draws=self.draws,
                    generator=streams[code],
                )
        names = [name for name, _ in learner.named_modules()]  # the ranking's order; backward passes have another
        return {
            part: {name: total[name].div_(counts[part]) for name in names if name in total}
            for part, total in sums.items()
        }


def _chunks(batches: Iterable[Batch], chosen: Tensor) -> Iterator[tuple[int, Batch]]:
    """A group's code with a chunk of its chosen images; the chunks do not depend on the batches' size."""
    waiting: dict[int, Batch] = {}
    codes = torch.unique(chosen[chosen >= 0]).tolist()
    start = 0
    for batch in batches:
        here = chosen[start : start + len(batch.label)]
        start += len(batch.label)
        for code in codes:
            rows = (here == code).nonzero()[:, 0].to(batch.label.device)
            held = Batch(*(column[rows] for column in batch))
            if code in waiting:
                held = Batch(*(torch.cat(pair) for pair in zip(waiting[code], held, strict=True)))
            while len(held.label) >= CHUNK:
                yield code, Batch(*(column[:CHUNK] for column in held))
                held = Batch(*(column[CHUNK:] for column in held))
            waiting[code] = held
    if start != len(chosen):
        raise DataError(
            f"the training images were {len(chosen)} when they were chosen from and {start} when they were scored; "
            "give batches that can be gone through again and again."
        )
    for code, held in waiting.items():
        if len(held.label):
            yield code, held
