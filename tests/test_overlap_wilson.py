"""The Jaccard index and its chance level by enumeration; Wilson's interval against scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from scp_ray.errors import ScpError
from scp_ray.maths.overlap import chance_jaccard, chance_jaccard_band, jaccard
from scp_ray.maths.wilson import wilson


def test_jaccard_by_hand():
    assert jaccard({1, 2, 3}, {2, 3, 4, 5}) == 2 / 5
    assert jaccard({1}, {2}) == 0.0
    assert jaccard({1}, {1}) == 1.0
    assert np.isnan(jaccard(set(), set()))


def every_index(first: int, second: int, channels: int) -> list[float]:
    """Of each pair of sets of these sizes, by going through all of them."""
    found = []
    for a in itertools.combinations(range(channels), first):
        for b in itertools.combinations(range(channels), second):
            both, either = len({*a} & {*b}), len({*a} | {*b})
            found.append(both / either)
    return found


@pytest.mark.parametrize(("first", "second", "channels"), [(2, 2, 5), (1, 3, 6), (4, 4, 8), (5, 4, 6), (0, 2, 4)])
def test_the_chance_level_is_the_mean_over_all_pairs_of_sets(first, second, channels):
    assert chance_jaccard(first, second, channels) == pytest.approx(np.mean(every_index(first, second, channels)))


def test_two_of_four_by_hand():
    # {a, b} against the six pairs of four: once the same, four times one in common (1/3), once none
    assert chance_jaccard(2, 2, 4) == pytest.approx((1 + 4 / 3) / 6)
    assert np.isnan(chance_jaccard(0, 0, 4))


def test_the_band_holds_the_middle_of_all_pairs():
    seen = np.sort(every_index(4, 4, 8))
    low, high = chance_jaccard_band(4, 4, 8)
    # 70 pairs for each set: 1, 16, 36, 16, 1 of them share 0 .. 4; 1/70 is below 2.5 %, 17/70 is above
    assert (low, high) == (1 / 7, 3 / 5)
    assert ((seen >= low) & (seen <= high)).mean() == pytest.approx(68 / 70)
    # two of twenty: most pairs share none, which then is the low end
    assert chance_jaccard_band(2, 2, 20) == (0.0, 1 / 3)


def test_impossible_sizes_are_refused():
    with pytest.raises(ScpError, match=r"got 9 and 2; allowed are 0 to 8"):
        chance_jaccard(9, 2, 8)
    with pytest.raises(ScpError, match="got -1 and 2"):
        chance_jaccard_band(-1, 2, 8)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (17, 240), (81, 263)])
def test_wilson_is_scipys(hits, n):
    known = binomtest(hits, n).proportion_ci(method="wilson")
    low, high = wilson(hits / n, n)
    assert (float(low), float(high)) == pytest.approx((known.low, known.high), abs=1e-12)


def test_wilson_of_arrays_and_of_nothing():
    low, high = wilson(np.array([0.5, 0.0]), np.array([4, 0]))
    # Newcombe's form by hand: (2 n p + z^2 -+ z sqrt(z^2 + 4 n p q)) / (2 (n + z^2)) with n = 4, z = 1.96
    assert low[0] == pytest.approx(0.1500, abs=1e-4)
    assert high[0] == pytest.approx(0.8500, abs=1e-4)
    assert np.isnan(low[1])
    assert np.isnan(high[1])
    with pytest.raises(ScpError, match="allowed are shares of 0 to 1"):
        wilson(1.2, 5)
