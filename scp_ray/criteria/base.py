"""The contract of a criterion, and the room's register."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import length_hint
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from scp_ray.activations import layer_output
from scp_ray.errors import ScoreError
from scp_ray.map_file import MapFile
from scp_ray.maths.channels import channels_per_round
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, Learner, PrunableLayer
from scp_ray.registry import Registry


class Criterion:
    """Ranks the channels of one layer. Low = prune first, for every criterion.

    A frozen dataclass whose fields are its hyper-parameters. It may say how its scoring batches are made:
    """

    plugin_name: ClassVar[str]
    batch_size: int = 128
    order: Literal["permuted", "table"] = "permuted"  # one fixed permutation for all, or the table's own order
    last_batch: Literal["half", "drop"] = "half"  # a short last batch counts from half the size on, or never
    scope: Literal["batch", "dataset"] = (
        "batch"  # dataset: all samples are one batch, however many go forward at a time
    )
    uses_groups: ClassVar[bool] = True  # False: the ranking is the same whoever is in which group
    prunes: ClassVar[bool] = True  # False: a control that leaves every channel in place

    def count(self, pr_c: float | None, channels: int) -> int:
        """k of a layer with so many channels: how many are pruned per round, 0 for a control that prunes none."""
        return channels_per_round(pr_c, channels) if self.prunes and pr_c is not None else 0

    def offset(self, group: Tensor, sizes: Sequence[int]) -> Tensor:
        """(R, 1): what the labellings (R, N) alone, cut into batches of these sizes, make of every channel's score.

        Of one labelling it moves all channels together, and says nothing of any.
        """
        return torch.zeros(len(group), 1)

    def seeded(self, seed: int) -> Criterion:
        """The criterion of one trial; only those that draw at random differ between seeds."""
        return self

    def score(
        self, learner: Learner, layer: PrunableLayer, batches: Iterable[Batch], *, group: Tensor | None = None
    ) -> Tensor:
        """(C,) float32 on the CPU.

        Args:
            learner: scored in eval mode; its mode is restored afterwards.
            batches: the scoring batches, in order.
            group: (R, N) codes that replace those of the N samples of all batches, for R labellings in one
                forward pass; the result is then (R, C). Without it the batches' own groups count.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define score().")


class BatchwiseCriterion(Criterion):
    """A criterion whose batches are scored apart, by whichever process, and put together in the batches' order.

    So the scores are the same, bit for bit, however many processes make the parts.
    """

    differentiates: ClassVar[bool] = False  # a backward pass gives other bits with another number of threads

    def part(self, learner: Learner, layer: PrunableLayer, batch: Batch, group: Tensor) -> Any:
        """What one batch says: a named tuple of CPU tensors.

        Args:
            learner: in eval mode.
            group: (R, n) codes of the batch's samples, on the CPU.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define part().")

    def combined(self, parts: Sequence[Any], group: Tensor) -> Tensor:
        """(R, C) float32 from the parts of all batches, at least one, in order; ``group`` (R, N) as for ``score``.

        Raises ScoreError where they say nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define combined().")

    def score(
        self, learner: Learner, layer: PrunableLayer, batches: Iterable[Batch], *, group: Tensor | None = None
    ) -> Tensor:
        """(C,), or (R, C): every batch in this process, one after the other. Raises ScoreError."""
        _check_rows(group)
        parts, rows, start = [], [], 0
        with evaluating(learner):
            for batch in batches:
                size = len(batch.label)
                rows.append(batch.group[None].cpu() if group is None else group[:, start : start + size].cpu())
                parts.append(self.part(learner, layer, batch, rows[-1]))
                start += size
        _check_samples(start, group)
        scores = self.combined(parts, torch.cat(rows, 1))
        return scores[0] if group is None else scores


class DatasetwiseCriterion(BatchwiseCriterion):
    """A criterion that scores by batches or, under ``scope: dataset``, all samples as one, a few channels at a time.

    A channel's scores are the same, bit for bit, in whatever block and process they are made.
    """

    FORWARD: ClassVar[int] = 32  # images at a time, whatever the batch: 128 of 128 px take VGG-11 1.1 GB on a CPU
    BLOCK_CHANNELS: ClassVar[int] = 16
    BLOCK_BYTES: ClassVar[int] = 2**28  # of a block's maps, unless one channel has more

    def maps(self, learner: Learner, layer: PrunableLayer, batch: Batch) -> Tensor:
        """(n, C, D) float32 on the CPU: what a batch adds to the maps of all samples; learner in eval mode."""
        some = (Batch(*parts) for parts in zip(*(torch.split(part, self.FORWARD) for part in batch), strict=True))
        return torch.cat([layer_output(learner, layer, few).flatten(2).float().cpu() for few in some])

    def blocks(self, channels: int, samples: int, size: int) -> list[slice]:
        """Which channels are scored together, for N maps of D pixels."""
        step = max(1, min(self.BLOCK_CHANNELS, self.BLOCK_BYTES // (4 * samples * size)))
        return [slice(start, min(start + step, channels)) for start in range(0, channels, step)]

    def block_scores(self, maps: Tensor, group: Tensor) -> Tensor:
        """(R, c) float64 on the CPU from all samples' maps (N, c, D) of some channels and their codes (R, N).

        Computed where the maps lie. Raises ScoreError where a labelling does not define a score.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define block_scores().")

    def combined_blocks(self, blocks: Sequence[Tensor]) -> Tensor:
        """(R, C) float32 from the scores of all blocks, in order. Values beyond float32 are its largest."""
        limit = torch.finfo(torch.float32).max
        return torch.cat([*blocks], 1).clamp(-limit, limit).float()

    def score(
        self, learner: Learner, layer: PrunableLayer, batches: Iterable[Batch], *, group: Tensor | None = None
    ) -> Tensor:
        """(C,), or (R, C): by batches, or from all maps, which lie in a scratch file meanwhile.

        Raises ScoreError, and ResourceError where the maps do not fit there.
        """
        if self.scope == "batch":
            return super().score(learner, layer, batches, group=group)
        _check_rows(group)
        codes: list[Tensor] = []
        with MapFile() as file:
            with evaluating(learner):
                for batch in batches:
                    maps = self.maps(learner, layer, batch)
                    if not codes:
                        expected = len(maps) * length_hint(batches, 1) if group is None else group.shape[1]
                        file.check_space(expected, maps)
                    file.append(maps)
                    codes.append(batch.group[None].cpu())
            _check_samples(file.samples, group)
            rows, device = torch.cat(codes, 1) if group is None else group.cpu(), next(learner.parameters()).device
            blocks = self.blocks(layer.channels, file.samples, maps.shape[2])
            scores = self.combined_blocks([self.block_scores(file.block(block).to(device), rows) for block in blocks])
        return scores[0] if group is None else scores


def _check_rows(group: Tensor | None) -> None:
    if group is not None and group.ndim != 2:
        raise ValueError(f"group must be (R, N) with N samples in all batches, got {tuple(group.shape)}.")


def _check_samples(count: int, group: Tensor | None) -> None:
    if not count:
        raise ScoreError("there is no scoring batch, so no channel can be scored; check the training split.")
    if group is not None and group.shape[1] != count:
        raise ValueError(f"group must be (R, N) with N = {count} samples, got {tuple(group.shape)}.")


criteria: Registry[Criterion] = Registry("criterion", "scp_ray.criteria")
register = criteria.register
