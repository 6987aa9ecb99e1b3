"""FairPrune: weights that matter little to the unprivileged group and much to the privileged one go first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from scp_ray.errors import ConfigError, ScoreError
from scp_ray.methods.base import register, require_two_groups
from scp_ray.methods.unstructured import Curvatures, UnstructuredPruning
from scp_ray.parts import FairnessData, Learner, Network


@register("fairprune")
@dataclass(frozen=True)
class FairPrune(UnstructuredPruning):
    """Wu et al. 2022: s = theta^2 (h_unprivileged - beta h_privileged) / 2; the smallest go, negative ones first.

    ``pr`` and ``beta`` are those of the pruning paper's tables. It does not say the scope, the number of images, the
    estimator or the steps: here one ranking over all convolution and linear weights, in one step, without fine-tuning.
    """

    beta: Annotated[float, Ge(0), Le(1)] = 0.33

    def check(self, network: Network, data_name: str, privileged_code: int | None, image_size: int) -> None:
        """Refuses a data set that does not say which group is privileged."""
        _require_privileged(self, data_name, privileged_code)

    def take_(self, learner: Learner, data: FairnessData) -> None:
        """Remember which group is privileged.

        Raises ConfigError where the data set does not say, or has another number of groups than two.
        """
        require_two_groups(self, data)
        _require_privileged(self, data.name, data.privileged_code)
        learner.privileged_code = data.privileged_code  # type: ignore[assignment]

    def weigh(self, learner: Learner, means: Mapping[int, Curvatures]) -> Curvatures:
        """h_unprivileged - beta h_privileged. Raises ScoreError where a group has no training images."""
        privileged = int(learner.privileged_code)  # type: ignore[arg-type]
        if missing := {0, 1} - set(means):
            raise ScoreError(f"no training images of group {min(missing)}: {self.plugin_name} compares both groups.")
        own, other = means[1 - privileged], means[privileged]
        return {name: values - self.beta * other[name] for name, values in own.items()}


def _require_privileged(method: FairPrune, data_name: str, privileged_code: int | None) -> None:
    if privileged_code not in (0, 1):
        raise ConfigError(
            f"method: {method.plugin_name} spares one group at the other's expense, and {data_name} does not say "
            f"whether group 0 or 1 is privileged (privileged_code is {privileged_code}). Give the data set its "
            "privileged_code, or choose obd."
        )
