"""The released training recipe: what is drawn, from where to where, and in which order (methods of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor

from scp_ray.data.augment.autoaugment import POLICIES, autoaugment_
from scp_ray.data.augment.colour import jitter_
from scp_ray.data.augment.geometry import MODES, cutout_, flip_then_affine, warp_each_mode


def released(images: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3, S, S) uint8 to float32 in [0, 1]: flips, affine map, colour jitter, AutoAugment, Cutout."""
    count, side = len(images), images.shape[-1]

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def one_of(choices: int) -> Tensor:
        return torch.randint(choices, (count,), generator=generator)

    maps = flip_then_affine(
        flip_x=between(0, 1) < 0.5,
        flip_y=between(0, 1) < 0.5,
        angle=between(-180, 180),
        scale=between(0.8, 1.2),
        shear=between(-10, 10),
    )
    changed = warp_each_mode(images, maps, one_of(len(MODES)))
    jitter_(
        changed,
        brightness=between(1 - 32 / 255, 1 + 32 / 255),
        saturation=between(0.5, 1.5),
        brightness_first=between(0, 1) < 0.5,
    )
    uniform = torch.rand(2, 2, count, generator=generator)
    autoaugment_(changed, policy=one_of(len(POLICIES)), chance=uniform[0], along=uniform[1])
    cutout_(changed, x=one_of(side), y=one_of(side))
    return changed
