"""Optimal brain damage: the fairness-blind control of FairPrune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scp_ray.methods.base import register
from scp_ray.methods.unstructured import Curvatures, UnstructuredPruning
from scp_ray.parts import Learner


@register("obd")
@dataclass(frozen=True)
class OBD(UnstructuredPruning):
    """LeCun et al. 1989: s = h theta^2 / 2 with h over the images of all groups; the smallest are pruned.

    The original retrains and iterates; here all is as in FairPrune, the images and drawn labels too, but the weighting
    of the groups: h = (n_0 h_0 + n_1 h_1) / (n_0 + n_1).
    """

    def part_of(self, group: int) -> int:
        """All groups together."""
        return 0

    def weigh(self, learner: Learner, means: Mapping[int, Curvatures]) -> Curvatures:
        """The mean over all images."""
        return means[0]
