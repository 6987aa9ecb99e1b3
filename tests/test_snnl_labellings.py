"""Several labellings of the same samples in one call: each row is that of a call of its own."""

from __future__ import annotations

import pytest
import torch
from snnl_by_hand import RELEASED, brute_force, groups_of, maps_of

from scp_ray.maths.snnl import snnl_scores


def test_several_labellings_equal_separate_calls():
    features = maps_of((12, 5, 3, 3))
    labellings = torch.stack([groups_of(12, 3 + seed, seed=seed) for seed in range(4)])
    for options in ({}, {"temperature": 2.0}, RELEASED):
        together = snnl_scores(features, labellings, **options)
        assert together.shape == (4, 5)
        for row, groups in zip(together, labellings, strict=True):
            assert torch.equal(row, snnl_scores(features, groups, **options))
            assert row.tolist() == pytest.approx(brute_force(features, groups, **options), rel=1e-5)


def test_one_labelling_keeps_its_axis():
    assert snnl_scores(maps_of((6, 4, 2)), torch.tensor([[0, 0, 0, 1, 1, 1]])).shape == (1, 4)


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"temperature": 1e-4}, {"temperature": 1e5}, RELEASED])
def test_many_labellings_equal_separate_calls(options):
    """70 at once, by products of matrices; at T = 1e-4 most sums of exponentials would be lost."""
    features = maps_of((12, 5, 3, 3))
    labellings = torch.stack([groups_of(12, 3 + seed % 6, seed=seed) for seed in range(70)])
    together = snnl_scores(features, labellings, **options)
    assert together.shape == (70, 5)
    for row, groups in zip(together, labellings, strict=True):
        assert row.tolist() == pytest.approx(snnl_scores(features, groups, **options).tolist(), rel=1e-6)
        if options.get("temperature") != 1e-4:
            assert row.tolist() == pytest.approx(brute_force(features, groups, **options), rel=1e-5)


def test_many_labellings_where_the_groups_lie_far_apart():
    """The other group's sum is e^-25 of its own: as a difference of sums it would drown in rounding."""
    truth = torch.arange(12) % 2
    features = 0.1 * maps_of((12, 5, 2)) + 3.6 * truth[:, None, None]
    labellings = torch.stack([truth, 1 - truth, truth, *(groups_of(12, 5, seed=seed) for seed in range(7))])
    together = snnl_scores(features, labellings, temperature=1.0)
    for row, groups in zip(together, labellings, strict=True):
        assert row.tolist() == pytest.approx(snnl_scores(features, groups, temperature=1.0).tolist(), rel=1e-6, abs=0)
    assert 0 < together[0].max() < 1e-8


def test_many_labellings_of_three_groups_with_a_lone_sample():
    features = maps_of((9, 4, 2, 2))
    labellings = torch.stack([torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 2]).roll(shift) for shift in range(9)])
    for row, groups in zip(snnl_scores(features, labellings), labellings, strict=True):
        assert row.tolist() == pytest.approx(snnl_scores(features, groups).tolist(), rel=1e-6)
