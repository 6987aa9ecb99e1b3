"""Random changes of whole training batches: drawn per sample on the CPU, made on the images' device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from scp_ray.data.augment.recipe import released
from scp_ray.data.augment.rows import change_rows_, rows_where


def augment(images: Tensor, recipe: Literal["released", "flips", "none"], generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) uint8 on any device to float32 in [0, 1] of the same shape; ``images`` stays as it is.

    ``released`` is the released recipe (methods of the paper): flips, affine maps, colour jitter,
    AutoAugment, Cutout. ``flips``: mirrored left-right and up-down with probability 1/2 each. ``none``: images / 255.
    Everything is drawn from ``generator``, which lives on the CPU, in an amount that depends on N alone: the draws are
    the same for any pictures and on any device.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"augment takes uint8 images with levels 0 to 255, got {images.dtype}")
    if recipe == "released":
        return released(images, generator)
    changed = images.float().div_(255)
    if recipe == "flips":
        for axis in (3, 2):
            chosen = torch.rand(len(images), generator=generator) < 0.5
            change_rows_(changed, rows_where(chosen), torch.flip, (axis,))
    return changed
