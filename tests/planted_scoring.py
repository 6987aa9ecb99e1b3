"""Criteria with planted trouble, in a file of their own: scorers import it by name."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch import Tensor

from scp_ray.criteria.base import BatchwiseCriterion
from scp_ray.criteria.snnl import SNNL
from scp_ray.errors import ScoreError
from scp_ray.parts import Batch, Learner, PrunableLayer
from scp_ray.tune.scorer import Request, Scorer


@dataclass(frozen=True)
class Noted(SNNL):
    """Every batch leaves a file <process>-<n> in ``folder`` when it begins."""

    folder: str = ""

    def part(self, learner: Learner, layer: PrunableLayer, batch: Batch, group: Tensor) -> Any:
        begun = Path(self.folder) / f"{os.getpid()}-{time.monotonic_ns()}"
        begun.touch()
        self.trouble()
        return super().part(learner, layer, batch, group)

    def trouble(self) -> None:
        """None."""


@dataclass(frozen=True)
class Steady(Noted):
    """Every batch takes a moment."""

    def trouble(self) -> None:
        time.sleep(0.3)


@dataclass(frozen=True)
class OneHangs(Noted):
    """The first process that begins a batch never ends it."""

    def trouble(self) -> None:
        slow = Path(self.folder) / "slow"
        with suppress(FileExistsError):
            slow.symlink_to(str(os.getpid()))
        if os.readlink(slow) == str(os.getpid()):
            time.sleep(600)
        time.sleep(0.05)


@dataclass(frozen=True)
class OneIsBroken(Noted):
    """The first process that begins a batch can do none: its mount is stale, or its CUDA context broken."""

    kind: str = ""

    def trouble(self) -> None:
        broken = Path(self.folder) / self.kind
        with suppress(FileExistsError):
            broken.symlink_to(str(os.getpid()))
        if os.readlink(broken) == str(os.getpid()):
            raise {"mount": OSError(116, "Stale file handle"), "cuda": torch.AcceleratorError("CUDA error")}[self.kind]


@dataclass(frozen=True)
class Raises(Noted):
    """Every batch is an error, where it is scored."""

    def trouble(self) -> None:
        raise ScoreError(f"no batch can be scored in {Path(self.folder).name}.")


@dataclass(frozen=True)
class SteadyWhole(SNNL):
    """Four channels are a block, and every block takes a moment and leaves a file."""

    BLOCK_CHANNELS: ClassVar[int] = 4
    folder: str = ""

    def block_scores(self, maps: Tensor, group: Tensor) -> Tensor:
        (Path(self.folder) / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(0.5)
        return super().block_scores(maps, group)


@dataclass(frozen=True)
class Threads(BatchwiseCriterion):
    """The score is how many threads torch has."""

    def part(self, learner: Learner, layer: PrunableLayer, batch: Batch, group: Tensor) -> int:
        return torch.get_num_threads()

    def combined(self, parts: Sequence[int], group: Tensor) -> Tensor:
        return torch.tensor([parts])


class ThreadsOfBackward(Threads):
    differentiates = True


class Resting(Scorer):
    """Leaves a file where it gives back what its GPU's cache holds."""

    def part(self, request: Request, index: int, group: Tensor) -> Any:
        self._folder = Path(request.criterion.folder)  # type: ignore[attr-defined]
        return super().part(request, index, group)

    def rest(self) -> None:
        with patch("torch.cuda.empty_cache", (self._folder / f"rested-{os.getpid()}").touch):
            super().rest()


def processes(folder: Path) -> Sequence[int]:
    """Which scorer began each batch or block, in the order of beginning."""
    begun = [path.name.split("-") for path in folder.iterdir() if "-" in path.name]
    ids = [int(process) for process, _ in sorted(begun, key=lambda parts: int(parts[1]))]
    return [process for process in ids if process != os.getpid()]
