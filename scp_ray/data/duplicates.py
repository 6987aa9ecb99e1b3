"""Which images are the same picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BLOCK = 512  # rows compared with all others at once: small enough for the processor's cache


def duplicate_groups(hashes: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    """(N,) codes: rows whose hashes differ in at most ``bits`` bits, directly or in a chain, have the same.

    Args:
        hashes: (N, B) packed bits, B a multiple of 8.
        bits: the largest distance of two duplicates.
    """
    words = np.ascontiguousarray(hashes).view(np.uint64)
    count = len(words)
    pairs = []
    for start in range(0, count, _BLOCK):
        left, right = _near(words[start : start + _BLOCK, 0], words[start:, 0], bits)
        distance = np.bitwise_count(words[start + left] ^ words[start + right]).sum(1)
        pairs.append(np.stack([left, right])[:, distance <= bits] + start)
    near = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
    return joined(near, count)


def joined(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count,) codes that rows share which a pair of ``pairs`` (2, P) joins, directly or in a chain."""
    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _near(block: NDArray[np.uint64], others: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.int64], ...]:
    """Pairs that the first word alone does not tell apart: few of all."""
    return np.nonzero(np.bitwise_count(block[:, None] ^ others[None]) <= bits)
