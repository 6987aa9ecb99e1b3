"""The same redrawn images for many sets of predictions: how far images alone move each metric, and together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from scp_ray.maths.metrics import ALL, metrics_of
from scp_ray.maths.rates import Counts, Floats, Ints
from scp_ray.maths.units import Units

_CELLS_AT_ONCE = 4_000_000  # counts held at a time: about 200 MB with what the metrics make of them


class Answers:
    """Predictions (P, N) as counts by part, so that any weights of the parts give counts by one product."""

    def __init__(self, label: Ints, predictions: Ints, units: Units, *, num_classes: int) -> None:
        self.sets, self.units = len(predictions), units
        column = np.arange(self.sets)[:, None] * num_classes + predictions
        parts = np.broadcast_to(units.of_image, column.shape)
        shape = (self.sets * num_classes, len(units.cell))

        def table(chosen: NDArray[np.bool_]) -> csr_array:
            return csr_array((np.ones(np.count_nonzero(chosen)), (column[chosen], parts[chosen])), shape=shape)

        right = predictions == label
        self._right, self._wrong = table(right), table(~right)

    def metrics(self, weight: Floats) -> dict[str, Floats]:
        """Each of ``ALL``, (draws, P), of weights (draws, 2, U) that keep the images of every cell."""
        return metrics_of(self.counts(weight))

    def counts(self, weight: Floats) -> Counts:
        """Counts (draws, P, 2, K) of the same."""
        return self.units.counts(self._counted(self._right, weight), self._counted(self._wrong, weight))

    def _counted(self, table: csr_array, weight: Floats) -> Any:
        draws, groups, parts = weight.shape
        product = table @ weight.reshape(draws * groups, parts).T
        return product.reshape(self.sets, -1, draws, groups).transpose(2, 0, 3, 1)


def redrawn_metrics(
    label: Ints, predictions: Ints, units: Units, *, num_classes: int, draws: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """Each of ``ALL`` of predictions (P, N) on redrawn images, (draws, P): row r is the same images for all P."""
    answers = Answers(label, predictions, units, num_classes=num_classes)
    chunk = max(1, _CELLS_AT_ONCE // (2 * len(predictions) * num_classes))
    found = [answers.metrics(units.weights(min(chunk, draws - start), rng)) for start in range(0, draws, chunk)]
    return {name: np.concatenate([part[name] for part in found]) for name in ALL}
