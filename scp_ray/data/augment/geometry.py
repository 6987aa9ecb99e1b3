"""Affine maps with a matrix per sample, and Cutout.

A map is given by its inverse, (N, 2, 3) on the CPU: from a pixel's place in the result to its place in the source,
as (x, y), where the picture reaches from -1 to 1 on both axes and its centre is 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scp_ray.data.augment.rows import portion, rows_where, send

MODES = ("nearest", "bilinear", "bicubic")


def warp(images: Tensor, inverse: Tensor, mode: str = "nearest") -> Tensor:
    """(N, 3, S, S) float resampled by its maps (N, 2, 3); 0 is what lies outside the source.

    Bicubic is the kernel of torch (a = -0.75) and may leave the range of its input.
    """
    side = images.shape[-1]
    place = (torch.arange(side, device=images.device) * 2 + (1 - side)) / side
    along_x, along_y, shift = send(inverse, images).unbind(2)
    # a plane for x and one for y, each written in one go: 13 times faster than pairs, and read as fast
    planes = (along_x[:, :, None] * place)[:, :, None, :] + (along_y[:, :, None] * place + shift[:, :, None])[..., None]
    return F.grid_sample(images, planes.permute(0, 2, 3, 1), mode=mode, padding_mode="zeros", align_corners=False)


def warp_each_mode(images: Tensor, inverse: Tensor, mode: Tensor) -> Tensor:
    """(N, 3, S, S) uint8 to float32 in [0, 1], resampled by its maps (N, 2, 3), sample by sample in MODES[mode]."""
    warped = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    for number, name in enumerate(MODES):
        for rows in torch.split(rows_where(mode == number), portion(images)):
            if len(rows):
                chosen = send(rows, images)
                moved = warp(images.index_select(0, chosen).float(), inverse[rows], name)
                warped.index_copy_(0, chosen, moved.div_(255).clamp_(0, 1))
    return warped


def _maps(x_by_x: Tensor, x_by_y: Tensor, x: Tensor, y_by_x: Tensor, y_by_y: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x_by_x, x_by_y, x, y_by_x, y_by_y, y], 1).view(-1, 2, 3)


def flip_then_affine(flip_x: Tensor, flip_y: Tensor, angle: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Maps (N, 2, 3) of mirroring, then shear along x, scale and rotation about the centre, in this order.

    ``flip_x`` and ``flip_y`` (N,) bool; ``angle`` (clockwise) and ``shear`` (N,) in degrees, as torchvision reads them.
    """
    cos, sin = angle.deg2rad().cos() / scale, angle.deg2rad().sin() / scale
    tan = shear.deg2rad().tan()
    sign_x, sign_y = 1 - 2 * flip_x.float(), 1 - 2 * flip_y.float()
    none = torch.zeros_like(angle)
    return _maps(sign_x * (cos - tan * sin), sign_x * (sin + tan * cos), none, -sign_y * sin, sign_y * cos, none)


def rotation(angle: Tensor) -> Tensor:
    """Maps of PIL's ``Image.rotate``: (N,) degrees counter-clockwise about the centre."""
    cos, sin, none = angle.deg2rad().cos(), angle.deg2rad().sin(), torch.zeros_like(angle)
    return _maps(cos, -sin, none, sin, cos, none)


def translation_x(share: Tensor) -> Tensor:
    """Maps of PIL's ``transform(AFFINE, (1, 0, t, 0, 1, 0))``, t = ``share`` (N,) of the side: to the left if > 0."""
    one, none = torch.ones_like(share), torch.zeros_like(share)
    return _maps(one, none, 2 * share, none, one, none)


def translation_y(share: Tensor) -> Tensor:
    """Maps of PIL's ``transform(AFFINE, (1, 0, 0, 0, 1, t))``, t = ``share`` (N,) of the side: upwards if > 0."""
    one, none = torch.ones_like(share), torch.zeros_like(share)
    return _maps(one, none, none, none, one, 2 * share)


def shear_y(slope: Tensor) -> Tensor:
    """Maps of PIL's ``transform(AFFINE, (1, 0, 0, slope, 1, 0))``, which leaves the left edge where it is."""
    one, none = torch.ones_like(slope), torch.zeros_like(slope)
    return _maps(one, none, none, slope, one, slope)


def cutout_(images: Tensor, x: Tensor, y: Tensor, size: int = 16) -> None:
    """Blacken one square per sample: pixels x - size/2 <= column < x + size/2, likewise rows; x, y (N,) on the CPU."""
    count, channels, side, _ = images.shape
    reach = torch.arange(-(size // 2), size - size // 2)
    # what would lie beyond a border falls on the border's own pixels, which the square holds anyway
    columns, rows = ((centre[:, None] + reach).clamp(0, side - 1) for centre in (x, y))
    pixels = (rows[:, :, None] * side + columns[:, None, :]).flatten(1)
    images.view(count, channels, -1).scatter_(2, send(pixels, images)[:, None].expand(-1, channels, -1), 0.0)
