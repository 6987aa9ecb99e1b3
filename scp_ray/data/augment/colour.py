"""Colour changes of PIL on float images (N, 3, S, S) in [0, 1], with a magnitude per sample.

Magnitudes are (N,) on the CPU. Changes of levels (posterise, solarise, equalise, autocontrast) read round(255 x).
"""

from __future__ import annotations

import torch
from torch import Tensor

from scp_ray.data.augment.rows import per_sample, portion

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R 601-2, as PIL's mode L


def _grey(images: Tensor) -> Tensor:
    """(N, 1, S, S)."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _blend_(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """other + factor (images - other), as PIL's ``Image.blend``."""
    return images.sub_(other).mul_(per_sample(factor, images)).add_(other).clamp_(0, 1)


def brighten_(images: Tensor, factor: Tensor) -> Tensor:
    """``ImageEnhance.Brightness``: 0 is black, 1 changes nothing."""
    return images.mul_(per_sample(factor, images)).clamp_(0, 1)


def saturate_(images: Tensor, factor: Tensor) -> Tensor:
    """``ImageEnhance.Color``: 0 is grey, 1 changes nothing."""
    return _blend_(images, _grey(images), factor)


def contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """``ImageEnhance.Contrast``: 0 is the mean grey, 1 changes nothing."""
    levels = _grey(images).mul_(255).round_()
    # a sum of whole numbers is exact in any order, so it is the same on any number of threads
    mean = levels.mean((1, 2, 3), keepdim=True, dtype=torch.float64).add_(0.5).floor_().div_(255)
    return _blend_(images, mean.to(images.dtype), factor)


def sharpen_(images: Tensor, factor: Tensor) -> Tensor:
    """``ImageEnhance.Sharpness``: 0 is smoothed, 1 changes nothing; the outermost pixels stay as they are."""
    inner = images[..., 1:-1, 1:-1]
    rows = (images[..., :-2, :] + images[..., 1:-1, :]).add_(images[..., 2:, :])
    smooth = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(inner * 4).div_(13)
    _blend_(inner, smooth, factor)
    return images


def jitter_(images: Tensor, brightness: Tensor, saturation: Tensor, brightness_first: Tensor) -> None:
    """Brightness and saturation by their factors (N,), one after the other; ``brightness_first`` (N,) bool.

    Brightness is asked for before and after, once with factor 1: cheaper than parting the samples by their order.
    """
    before, after = torch.where(brightness_first, brightness, 1.0), torch.where(brightness_first, 1.0, brightness)
    parts = (torch.split(values, portion(images)) for values in (images, before, saturation, after))
    for part, first, middle, last in zip(*parts, strict=True):
        brighten_(saturate_(brighten_(part, first), middle), last)


def _levels(images: Tensor) -> Tensor:
    return images.mul(255).round_().to(torch.uint8)


def _from_levels(levels: Tensor) -> Tensor:
    return levels.float().div_(255)


def invert(images: Tensor, _: Tensor) -> Tensor:
    """``ImageOps.invert``."""
    return 1 - images


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """``ImageOps.solarize``: levels from ``threshold`` (0 to 256) on are inverted."""
    levels = images.mul(255).round_()
    inverted = levels.clone().ge_(per_sample(threshold, levels))  # 0 or 1
    return levels.sub_(inverted.mul_(255)).abs_().div_(255)  # 16 times faster than torch.where


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """``ImageOps.posterize``: keeps the highest ``bits`` (1 to 8, rounded) of each level."""
    masks = 256 - (1 << (8 - bits.round().int()))
    levels = _levels(images)
    return _from_levels(levels & per_sample(masks, levels))


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """``ImageOps.equalize``: each channel's levels spread evenly."""
    from torchvision.transforms.v2 import functional

    return _from_levels(functional.equalize(_levels(images)))


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """``ImageOps.autocontrast``: each channel stretched to 0..255, unless it has only one level.

    Levels are mapped in float64, as PIL's: torchvision's float32 differed by a level in 326 of 400 random images.
    """
    levels = _levels(images).flatten(2)
    low, high = (level.double()[..., None] for level in (levels.amin(2), levels.amax(2)))
    every = torch.arange(256, device=images.device, dtype=torch.float64)
    scale = torch.full_like(low, 255) / (high - low)  # 255 / tensor would round twice: it takes a reciprocal
    table = torch.where(high > low, (every * scale + -low * scale).trunc(), every).clamp_(0, 255)
    return table.float().div_(255).gather(2, levels.long()).view(images.shape)
