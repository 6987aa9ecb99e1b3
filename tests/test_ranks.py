from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from scp_ray.maths.channels import lowest_channels
from scp_ray.maths.ranks import combined_p, combined_rank

# ranks 1 2 3 4 5 and 4 2 5 1 3
TWO = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5], [40.0, 20, 50, 10, 30]])


def test_by_hand():
    assert combined_rank(TWO, "mean").tolist() == [2.5, 2, 4, 2.5, 4]
    assert combined_rank(TWO, "worst").tolist() == [4, 2, 5, 4, 5]


def test_a_channel_low_for_all_comes_before_one_that_is_lowest_for_one():
    """Ranks (1, 5) and (2, 2): the mean 3 against 2, the worst 5 against 2."""
    scores = torch.tensor([[1.0, 2, 3, 4, 5], [9.0, 2, 1, 4, 5]])
    for how in ("mean", "worst"):
        ranks = combined_rank(scores, how)
        assert ranks[1] < ranks[0]
    # ranks (1, 4) and (3, 3): the mean prefers the one, the worst rank the other
    split = torch.tensor([[1.0, 2, 3, 4], [4.0, 2, 3, 1]])
    mean, worst = (combined_rank(split, how) for how in ("mean", "worst"))
    assert (mean[0] < mean[2], worst[0] > worst[2]) == (True, True)


def test_one_attribute_is_its_own_ranks():
    scores = torch.tensor([[3.0, -1.0, math.inf, 0.5]])
    for how in ("mean", "worst"):
        assert combined_rank(scores, how).tolist() == [3, 1, 4, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_ties_share_their_mean_rank(dtype):
    """Against scipy's rankdata, on few values so that there are many ties."""
    scores = torch.from_numpy(np.random.default_rng(0).integers(0, 6, size=(4, 40))).to(dtype)
    ranks = np.stack([stats.rankdata(row, method="average") for row in scores.numpy()])
    np.testing.assert_array_equal(combined_rank(scores, "mean").numpy(), ranks.mean(0))
    np.testing.assert_array_equal(combined_rank(scores, "worst").numpy(), ranks.max(0))


def test_pruned_channels_take_no_rank():
    """Channel 3 lies in other places for the two attributes, and would move the others' ranks apart."""
    kept = [0, 1, 2, 4]
    ranks = combined_rank(torch.where(torch.arange(5) == 3, torch.nan, TWO), "mean", spare=[3])
    assert ranks[3].isnan()
    assert torch.equal(ranks[kept], combined_rank(TWO[:, kept], "mean"))
    assert ranks[kept].tolist() == [2, 1.5, 3.5, 3]
    assert lowest_channels(ranks, 1, spare=torch.tensor([3])).tolist() == [1]


def test_combined_p_by_hand():
    p = torch.tensor([[0.01, 0.5, 0.9, 0.0], [0.3, 0.02, 0.6, 1.0], [0.2, 0.4, 0.7, 1.0]])
    assert combined_p(p).tolist() == pytest.approx([0.03, 0.06, 1, 0])
    assert torch.equal(combined_p(p[:1]), p[0])


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_combined_p_is_no_smaller_than_chance(correlation):
    """20,000 channels under the null, three attributes: P(p <= a) <= a plus four standard errors."""
    generator = np.random.default_rng(1)
    shared = generator.normal(size=(1, 20000)) * math.sqrt(correlation)
    z = shared + generator.normal(size=(3, 20000)) * math.sqrt(1 - correlation)
    p = combined_p(torch.from_numpy(stats.norm.cdf(z))).numpy()
    for a in (0.01, 0.05, 0.2):
        assert (p <= a).mean() <= a + 4 * math.sqrt(a * (1 - a) / 20000)
    if not correlation:  # 1 - (1 - a / 3)^3
        assert (p <= 0.05).mean() == pytest.approx(0.0492, abs=4 * math.sqrt(0.05 * 0.95 / 20000))


@pytest.mark.parametrize(
    ("scores", "options", "words"),
    [
        (TWO[0], {}, "must be"),
        (TWO[:0], {}, "at least one attribute"),
        (TWO, {"how": "best"}, "'best'"),
        (torch.tensor([[1.0, 2], [1, math.nan]]), {}, r"attributes \[1\] hold NaN"),
    ],
)
def test_bad_scores(scores, options, words):
    with pytest.raises(ValueError, match=words):
        combined_rank(scores, **options)


@pytest.mark.parametrize("p", [torch.ones(3), torch.ones(0, 3), torch.tensor([[0.5, 1.1]]), torch.tensor([[math.nan]])])
def test_bad_p(p):
    with pytest.raises(ValueError, match="p must be"):
        combined_p(p)
