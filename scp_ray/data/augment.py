"""Random changes of whole training batches, drawn per sample."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def augment(images: Tensor, recipe: Literal["flips", "none"], generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) to the same shape: each sample mirrored left-right and up-down with probability 1/2 each."""
    if recipe == "none":
        return images
    for axis in (3, 2):
        chosen = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(chosen.to(images.device)[:, None, None, None], images.flip(axis), images)
    return images
