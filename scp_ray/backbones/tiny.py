"""A CNN that learns in seconds on a CPU: for first steps, tests and demonstrations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from scp_ray.backbones.base import Backbone, register

WIDTHS = (16, 16, 32, 32, 64, 64, 64, 64)


@register("tiny")
@dataclass(frozen=True)
class Tiny(Backbone):
    """8 convolutions with batch norm in 4 stages, each stage at half the size; a 6 x 6 map at 96 px."""

    weights: str = "none"
    stages = ("5", "11", "17", "23")

    def module(self, num_classes: int) -> nn.Module:
        """Stages of two convolutions; the first of each halves the size."""
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
            stride = 2 if index % 2 == 0 else 1
            layers += [
                nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], num_classes))
