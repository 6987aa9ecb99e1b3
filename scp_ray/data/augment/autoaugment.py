"""AutoAugment: per sample one of 25 policies of two changes each (methods of the paper; the released recipe)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scp_ray.data.augment import colour, geometry
from scp_ray.data.augment.rows import change_rows_, rows_where

STEPS = 10  # of the grid of magnitudes


class Operation(NamedTuple):
    """A change of images (N, 3, S, S), which it may overwrite, by magnitudes (N,) between ``low`` and ``high``."""

    change: Callable[[Tensor, Tensor], Tensor]
    low: float = 0.0
    high: float = 0.0


def _warped(maps: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, magnitude: geometry.warp(images, maps(magnitude))


OPERATIONS = {
    "ShearY": Operation(_warped(geometry.shear_y), -0.3, 0.3),
    "TranslateX": Operation(_warped(geometry.translation_x), -150 / 331, 150 / 331),
    "TranslateY": Operation(_warped(geometry.translation_y), -150 / 331, 150 / 331),
    "Rotate": Operation(_warped(geometry.rotation), -30, 30),
    "Solarize": Operation(colour.solarize, 0, 256),
    "Posterize": Operation(colour.posterize, 4, 8),
    "Contrast": Operation(colour.contrast_, 0.1, 1.9),
    "Color": Operation(colour.saturate_, 0.1, 1.9),
    "Brightness": Operation(colour.brighten_, 0.1, 1.9),
    "Sharpness": Operation(colour.sharpen_, 0.1, 1.9),
    "AutoContrast": Operation(colour.autocontrast),
    "Equalize": Operation(colour.equalize),
    "Invert": Operation(colour.invert),
}

# operation, its probability, and the grid point where its magnitudes begin
POLICIES = (
    (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0.3)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
    (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)


def autoaugment_(images: Tensor, policy: Tensor, chance: Tensor, along: Tensor) -> None:
    """Change (N, 3, S, S) in [0, 1] by ``POLICIES[policy]``, policy (N,); all draws are on the CPU.

    ``chance`` (2, N) in [0, 1): a step is taken where it is below the step's probability. ``along`` (2, N) in [0, 1):
    how far its magnitude lies from its grid point to the next.
    """
    names = list(OPERATIONS)
    for stage in (0, 1):
        steps = [pair[stage] for pair in POLICIES]
        chosen = torch.tensor([names.index(name) for name, _, _ in steps])[policy]
        taken = chance[stage] < torch.tensor([probability for _, probability, _ in steps])[policy]
        share = (torch.tensor([float(point) for _, _, point in steps])[policy] + along[stage]) / STEPS
        for number, (change, low, high) in enumerate(OPERATIONS.values()):
            rows = rows_where(taken & (chosen == number))
            magnitude = low + (high - low) * share[rows]
            change_rows_(images, rows, change, magnitude)
