"""Groups dealt anew within each class, whole units together: what a gap is when answers know nothing of the group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scp_ray.maths.paired_bootstrap import Units


def permuted_codes(units: Units, permutations: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(permutations, U) group codes of the parts of ``units``.

    Codes are exchanged between parts of one class and one number of images. So each class keeps its images of each
    group exactly, the expected gap of a fair classifier on this very table is what is sampled, and the test is exact
    whatever the sizes: given class and size, a fair classifier's answers to a unit are exchangeable. A part whose size
    nothing else in its class has stays where it is.
    """
    kind = units.cell // 2 * (int(units.size.max()) + 1) + units.size.astype(np.int64)
    codes = np.tile((units.cell % 2).astype(np.uint8), (permutations, 1))
    for stratum in np.unique(kind):
        columns = np.flatnonzero(kind == stratum)
        if 0 < codes[0, columns].sum() < len(columns):
            codes[:, columns] = rng.permuted(codes[:, columns], axis=1)
    return codes


def as_weights(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(R, U) codes as the weights (R, 2, U) of each part in each group."""
    return np.stack([1.0 - codes, codes.astype(float)], 1)
