"""Dealing images to train, val and test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scp_ray.data.duplicates import joined

Codes = NDArray[np.int64]


def deal(cells: Codes, units: Codes, shares: Sequence[float], seed: int) -> Codes:
    """(N,) which of the ``shares`` each row goes to, stratified, whole units at a time.

    Cell by cell, larger units first and otherwise in random order, each unit goes to the split that is furthest
    behind its share of what was dealt so far. So every cell is divided about evenly, thin ones too: what one cell
    owes a split, the next one pays.

    Args:
        cells: (N,) the cell (label x group) of each row; a unit in several counts for its first row's.
        units: (N,) codes of what may not be torn apart.
        shares: of the splits, summing to 1.
        seed: the same seed, cells and units give the same split.
    """
    rng = np.random.default_rng(seed)
    _, first, unit_of_row, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    _, cell_of_unit = np.unique(cells[first], return_inverse=True)
    turn = rng.permutation(cell_of_unit.max() + 1)[cell_of_unit]
    order = np.lexsort((rng.permutation(len(sizes)), -sizes, turn))
    owed = [0.0] * len(shares)
    for _ in range(int(rng.integers(1_000))):  # begin anywhere in the rhythm: or a first thin cell were always train's
        owed = [debt + share for debt, share in zip(owed, shares, strict=True)]
        owed[owed.index(max(owed))] -= 1
    given = np.empty(len(sizes), np.int64)
    for unit in order:
        size = int(sizes[unit])
        owed = [debt + share * size for debt, share in zip(owed, shares, strict=True)]
        split = owed.index(max(owed))
        owed[split] -= size
        given[unit] = split
    return given[unit_of_row]


def clusters(*keys: pd.Series[str]) -> Codes:
    """(N,) codes of rows that belong together: rows that share a non-empty value of any key, directly or in a chain."""
    edges = []
    for key in keys:
        known = np.flatnonzero((key != "").to_numpy())
        _, first, same = np.unique(key.to_numpy(str)[known], return_index=True, return_inverse=True)
        edges.append(np.stack([known, known[first][same]]))
    return joined(np.concatenate(edges, axis=1), len(keys[0]))
