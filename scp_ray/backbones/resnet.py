"""ResNet-18, as torchvision has it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from scp_ray.backbones.base import Backbone, register


@register("resnet18")
@dataclass(frozen=True)
class ResNet18(Backbone):
    """17 convolutions; those on the shortcuts do not count.

    Pruning a block's last convolution silences it and its norm; the shortcut still carries that channel.
    """

    weights: str = "none"
    imagenet_name = "resnet18"
    ignored = ("downsample",)
    stages = ("layer1", "layer2", "layer3", "layer4")

    def module(self, num_classes: int) -> nn.Module:
        """torchvision's resnet18."""
        from torchvision.models import resnet18

        module: nn.Module = resnet18(num_classes=num_classes)
        return module
