"""VGG-11 with and without batch norm, as torchvision has it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from scp_ray.backbones.base import Backbone, register


@register("vgg11")
@dataclass(frozen=True)
class VGG11(Backbone):
    """8 convolutions; the last one's map is S/16 per side. 129 M parameters, 80 % of them in the first linear layer."""

    weights: str = "none"
    imagenet_name = "vgg11"
    stages = ("features.5", "features.10", "features.15", "features.20")

    def module(self, num_classes: int) -> nn.Module:
        """torchvision's model of that name."""
        from torchvision.models import get_model

        module: nn.Module = get_model(self.imagenet_name, weights=None, num_classes=num_classes)
        return module


@register("vgg11-bn")
@dataclass(frozen=True)
class VGG11BN(VGG11):
    """VGG-11 with a batch norm after each of its 8 convolutions; "features.18" is the 6th here, the last in vgg11."""

    imagenet_name = "vgg11_bn"
    stages = ("features.7", "features.14", "features.21", "features.28")
