"""Which images are the same picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_PAIRS = 1 << 17  # compared at once: small enough for the processor's cache


def duplicate_groups(hashes: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    """(N,) codes: rows whose hashes differ in at most ``bits`` bits, directly or in a chain, have the same.

    Args:
        hashes: (N, B) packed bits, B a multiple of 8.
        bits: the largest distance of two duplicates.
    """
    words = np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).T)
    count = words.shape[1]
    rows = max(1, _PAIRS // max(1, count))
    pairs = []
    for start in range(0, count, rows):
        # two words, 128 bits, leave next to none of the pairs that differ; one would leave 3 % of them
        partly = (np.bitwise_count(word[start : start + rows, None] ^ word[None, start:]) for word in words[:2])
        pair = np.stack(np.divmod(np.flatnonzero(sum(partly) <= bits), count - start)) + start
        distance = np.bitwise_count(words[:, pair[0]] ^ words[:, pair[1]]).sum(0)
        pairs.append(pair[:, distance <= bits])
    near = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
    return joined(near, count)


def joined(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count,) codes that rows share which a pair of ``pairs`` (2, P) joins, directly or in a chain."""
    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
