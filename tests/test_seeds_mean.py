"""The interval of a mean over seeds, by hand and by quantiles of every table."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from scp_ray.maths.seeds import mean_over_seeds
from scp_ray.report.figures.rows import seed_means

T2, NORMAL = 4.302653, 1.959964  # quantiles at 0.975: t with 2 degrees, and with infinitely many


def test_three_seeds_alone_are_students():
    mean, low, high = mean_over_seeds([0.49, 0.50, 0.51])
    assert mean == pytest.approx(0.5)
    assert high - mean == pytest.approx(T2 * 0.01 / math.sqrt(3), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)


def test_one_seed_is_the_images_share():
    assert mean_over_seeds([0.5], [0.02]) == pytest.approx((0.5, 0.5 - NORMAL * 0.02, 0.5 + NORMAL * 0.02))


def test_both_shares_add_each_with_its_own_quantile():
    """Seeds: s = 0.01 over 3; images: the mean of 0.01^2, 0.02^2 and 0.03^2."""
    half = math.sqrt(T2**2 * 0.0001 / 3 + NORMAL**2 * (0.0001 + 0.0004 + 0.0009) / 3)
    _, low, high = mean_over_seeds([0.49, 0.50, 0.51], [0.01, 0.02, 0.03])
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)


def test_what_is_not_known_has_no_interval():
    assert np.isnan(mean_over_seeds([0.5])[1:]).all()
    assert np.isnan(mean_over_seeds([0.5, math.nan], [0.1, 0.1])).all()
    assert np.isnan(mean_over_seeds([0.5, 0.6], [0.1, math.nan])[1:]).all()
    assert np.isnan(mean_over_seeds([], [])).all()


@pytest.mark.parametrize(
    ("of_images", "of_seeds", "least", "most"),
    [(0.0, 1.0, 0.945, 0.955), (1.0, 0.0, 0.945, 0.955), (1.0, 1.0, 0.95, 0.98)],
    ids=["seeds alone: exact", "images alone: exact", "both: no less"],
)
def test_it_covers_a_planted_mean(of_images: float, of_seeds: float, least: float, most: float):
    """20,000 runs of three seeds that answer the same images; the truth is 0."""
    stream = np.random.default_rng(0)
    runs, seeds = 20_000, 3
    noise = of_images * stream.standard_normal((runs, 1)) + of_seeds * stream.standard_normal((runs, seeds))
    inside = 0
    for values in noise:
        _, low, high = mean_over_seeds(values, [of_images] * seeds)
        inside += low <= 0 <= high
    assert least <= inside / runs <= most


def test_a_figure_without_evidence_shows_the_spread_between_seeds():
    own = pd.DataFrame({"val_f1": [0.49, 0.50, 0.51], "f1_error": math.nan})
    assert seed_means(own, "f1") == pytest.approx(mean_over_seeds([0.49, 0.50, 0.51]))
    assert np.isnan(seed_means(own.assign(f1_error=[0.1, math.nan, 0.1]), "f1")[1:]).all()
