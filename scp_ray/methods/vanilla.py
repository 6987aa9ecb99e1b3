"""No mitigation: cross-entropy with a class-balanced sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scp_ray.methods.base import Method, register
from scp_ray.parts import FairnessData, Learner, Network


@register("vanilla")
@dataclass(frozen=True)
class Vanilla(Method):
    """The paper's baseline; every FATE "_vanilla" is measured against it."""

    @property
    def own_loss(self) -> bool:
        """Plain cross-entropy."""
        return False

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        """The plain classifier."""
        return Learner(*backbone())
