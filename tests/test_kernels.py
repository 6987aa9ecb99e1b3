from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from scp_ray.maths.kernels import squared_distances, squared_mmd, unbiased_hsic

PAIRED = torch.eye(2).repeat_interleave(2, 0).double()  # e1, e1, e2, e2
CROSSED = torch.eye(2).repeat(2, 1).double()  # e1, e2, e1, e2


def hsic(x, y):
    """Of all samples together."""
    return unbiased_hsic(x, y, torch.zeros(len(x), dtype=torch.long), 1)[0]


def mmd(x, y, sigma=1.0):
    """Between all rows of x and all rows of y."""
    return squared_mmd(x, y, torch.ones(1, len(x)).bool(), torch.ones(1, len(y)).bool(), sigma=sigma)[0]


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def alternating(count):
    """One-hot groups 0, 1, 0, 1, ..."""
    return torch.eye(2).double().repeat(count // 2, 1)


def hsic_by_quadruples(x, y):
    """The U-statistic: over ordered quadruples of distinct samples, the mean of K_ij (L_ij + L_qr - 2 L_iq)."""
    k, l = (kernel_by_loops(rows) for rows in (x, y))  # noqa: E741
    terms = [k[i][j] * (l[i][j] + l[q][r] - 2 * l[i][q]) for i, j, q, r in permutations(range(len(x)), 4)]
    return sum(terms) / len(terms)


def kernel_by_loops(rows):
    units = [row / row.pow(2).sum().sqrt() for row in rows]
    far = [[(a - b).pow(2).sum() for b in units] for a in units]
    bandwidth = math.fsum(d.item() for line in far for d in line) / len(rows) ** 2
    return [[torch.exp(-d / (2 * bandwidth)) for d in line] for line in far]


def mmd_by_loops(x, y, *, sigma, all_x=None, all_y=None):
    """Biased, by double loops; the bandwidth is taken from all rows."""
    all_x, all_y = x if all_x is None else all_x, y if all_y is None else all_y
    far = [(a - b).pow(2).sum().item() for a in all_x for b in all_y]
    bandwidth = 2 * sigma * math.fsum(far) / len(far)

    def mean(left, right):
        terms = [torch.exp(-(a - b).pow(2).sum() / bandwidth) for a in left for b in right]
        return sum(terms) / len(terms)

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


# HSIC


def test_hsic_of_four_unit_vectors_by_hand():
    """Mean distance 8 * 2 / 16 = 1, so K is 1 between equal and 1/e between different vectors; u = 1 - 1/e.

    Less 1/e off the diagonal (which changes nothing) each row has one entry u. Aligned: (4u² + 16u²/6 - 4u²) / 4 =
    2u²/3. Crossed, where K and L share no entry: (16u²/6 - 4u²) / 4 = -u²/3: the estimate is not clamped.
    """
    u = 1 - math.exp(-1)
    assert hsic(PAIRED, PAIRED).item() == pytest.approx(2 * u**2 / 3, abs=1e-12)
    assert hsic(PAIRED, PAIRED).item() == pytest.approx(0.266384, abs=1e-6)
    assert hsic(PAIRED, CROSSED).item() == pytest.approx(-(u**2) / 3, abs=1e-12)
    assert hsic(PAIRED, CROSSED).item() == pytest.approx(-0.133192, abs=1e-6)


def test_hsic_of_a_single_group_is_zero():
    for count in (4, 7, 32):
        one = torch.tensor([[1.0, 0.0]]).repeat(count, 1)
        assert hsic(normal(count, 10), one).item() == pytest.approx(0, abs=1e-15)


def test_hsic_of_independent_samples_is_zero_on_average():
    draws = np.array([hsic(normal(32, 10, seed=seed), alternating(32)).item() for seed in range(400)])
    assert 1e-3 < draws.std() < 2e-3
    assert abs(draws.mean()) < 3 * draws.std() / math.sqrt(len(draws))
    assert draws.min() < 0


def test_hsic_of_a_coordinate_shifted_by_group():
    side = torch.tensor([-6.0, 6.0]).repeat(16).double()
    values = []
    for seed in range(20):
        x = normal(32, 10, seed=seed)
        x[:, 0] += side
        values.append(hsic(x, alternating(32)).item())
    assert np.mean(values) == pytest.approx(0.08, abs=0.005)


def test_hsic_does_not_depend_on_the_order_of_the_samples():
    x, y, order = normal(12, 5), normal(12, 3, seed=1), torch.from_numpy(np.random.default_rng(2).permutation(12))
    assert hsic(x[order], y[order]).item() == pytest.approx(hsic(x, y).item(), rel=1e-12)
    assert hsic(x[order], y).item() != pytest.approx(hsic(x, y).item(), rel=1e-3)


@pytest.mark.parametrize("count", [4, 5, 7, 9])
def test_hsic_is_the_u_statistic_over_distinct_quadruples(count):
    """Which has no diagonal at all, and so pins how the diagonals are taken out."""
    x, y = normal(count, 3, seed=count), normal(count, 2, seed=count + 1)
    assert hsic(x, y).item() == pytest.approx(hsic_by_quadruples(x, y).item(), abs=1e-13)


def test_subtracting_the_diagonal_as_a_row_is_harmless_for_gaussian_kernels():
    """What the released code does: the diagonal is 1, so every other entry is less by 1, which cancels."""
    x, y = normal(9, 3), alternating(10)[:9]
    k, l = (np.array(kernel_by_loops(rows)) for rows in (x, y))  # noqa: E741
    k, l = k - np.diag(k), l - np.diag(l)  # noqa: E741
    n = len(k)
    released = np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * (k @ l).sum() / (n - 2)
    assert hsic(x, y).item() == pytest.approx(released / (n * (n - 3)), abs=1e-12)


def test_hsic_of_parts_is_that_of_each_part_alone():
    """Parts of 7, 4, 3, 0 and 1 samples, mixed up: below 4 it is 0, and each part has a bandwidth of its own."""
    part = torch.tensor([0, 1, 0, 2, 0, 1, 4, 0, 1, 2, 0, 1, 0, 2, 0])
    x, y = normal(15, 4) + 3 * part[:, None], normal(15, 2, seed=1)
    found = unbiased_hsic(x, y, part, 5)
    assert found[[2, 3, 4]].tolist() == [0, 0, 0]
    for index in (0, 1):
        alone = hsic_by_quadruples(x[part == index], y[part == index])
        assert found[index].item() == pytest.approx(alone.item(), abs=1e-13)


def test_hsic_sees_directions_only():
    x, y = normal(9, 4), alternating(10)[:9]
    lengths = normal(9, 1, seed=5).abs() + 0.1
    assert hsic(x * lengths, y).item() == pytest.approx(hsic(x, y).item(), abs=1e-10)


def test_the_gradient_of_hsic_takes_the_bandwidth_as_given():
    """Against autograd through the quadruples, whose bandwidth is a plain number."""
    x, y = normal(6, 3).requires_grad_(), normal(6, 2, seed=1)
    (found,) = torch.autograd.grad(hsic(x, y), x)
    (expected,) = torch.autograd.grad(hsic_by_quadruples(x, y), x)
    assert torch.allclose(found, expected, rtol=0, atol=1e-11)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("dead", [slice(0, 1), slice(0, 3), slice(None)])
def test_zero_features_have_no_gradient_and_spoil_none(dead):
    values = normal(8, 5).float()
    values[dead] = 0
    x = values.requires_grad_()
    value = hsic(x, alternating(8))
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    assert not x.grad[dead].any()
    assert x.grad.abs().max() < 1


def test_equal_features_have_no_dependence_and_no_gradient():
    x = torch.full((8, 5), 0.3, requires_grad=True)
    value = hsic(x, alternating(8))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert x.grad.abs().max() < 1e-6


def test_float32_features_are_summed_in_float64():
    """A far common offset leaves float32 sums nothing of the small differences."""
    x = (normal(32, 512) * 0.1 + 5).float()
    found = hsic(x, alternating(32))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(hsic(x.double(), alternating(32)).item(), rel=1e-7, abs=0)


# MMD


def test_mmd_between_equal_sets_is_zero():
    x = normal(6, 3)
    assert mmd(x, x.flip(0)).item() == pytest.approx(0, abs=1e-15)
    same = torch.full((5, 3), 7.7)
    assert mmd(same, same.clone()).item() == pytest.approx(0, abs=1e-7), "also where all distances are 0"


def test_mmd_of_three_numbers_by_hand():
    """X = {0, 2}, Y = {1}: mean distance between them 1. sigma 1: (1 + e^-2) / 2 + 1 - 2 e^(-1/2).

    sigma 0.5 multiplies the mean and is not squared: all exponents are doubled.
    """
    x, y = torch.tensor([[0.0], [2.0]]).double(), torch.tensor([[1.0]]).double()
    assert mmd(x, y).item() == pytest.approx(0.354606, abs=1e-6)
    assert mmd(x, y, sigma=0.5).item() == pytest.approx((1 + math.exp(-4)) / 2 + 1 - 2 * math.exp(-1), abs=1e-11)
    assert mmd(10 * x, 10 * y).item() == pytest.approx(0.354606, abs=1e-6), "no scale of its own"


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_mmd_of_sets_by_double_loops(sigma):
    """Overlapping, single and unequal sets, all with the bandwidth of all rows, also of those in no set."""
    x, y = normal(9, 4), normal(7, 4, seed=1) + 1
    pairs = [([0, 1, 2], [3]), ([1, 2, 3, 4, 5], [0, 1, 6]), ([8], [0, 1, 2]), ([0, 1, 2], [4, 5])]
    x_sets, y_sets = torch.zeros(6, 9).bool(), torch.zeros(6, 7).bool()
    for index, (left, right) in enumerate(pairs):
        x_sets[index, left] = True
        y_sets[index, right] = True
    x_sets[4, :2] = True  # and its partner empty
    y_sets[5, :2] = True
    found = squared_mmd(x, y, x_sets, y_sets, sigma=sigma)
    expected = [mmd_by_loops(x[i], y[j], sigma=sigma, all_x=x, all_y=y).item() for i, j in pairs]
    assert found.tolist() == pytest.approx([*expected, 0, 0], abs=1e-11)
    assert min(expected) > 0.05


def test_the_gradient_of_mmd_takes_the_bandwidth_as_given():
    x, y = normal(5, 3), normal(4, 3, seed=1).requires_grad_()
    (found,) = torch.autograd.grad(mmd(x, y, sigma=0.5), y)
    (expected,) = torch.autograd.grad(mmd_by_loops(x, y, sigma=0.5), y)
    assert torch.allclose(found, expected, rtol=0, atol=1e-11)
    assert expected.abs().max() > 1e-3


def test_mmd_of_zero_and_of_equal_features_has_a_finite_gradient():
    for x, y in [(torch.zeros(4, 3), torch.zeros(4, 3)), (torch.ones(4, 3), torch.ones(4, 3)), (torch.ones(4, 3),) * 2]:
        student = y.clone().requires_grad_()
        value = mmd(x, student)
        value.backward()
        assert value.isfinite()
        assert student.grad.abs().max() < 1e-6


def test_mmd_of_far_away_float32_features():
    """Moved by 1000 in each of 512 coordinates; the squares are 1e9 times the differences'."""
    x, y = normal(16, 512).float(), normal(16, 512, seed=1).float() * 1.1
    moved = mmd(x + 1000, y + 1000)
    assert moved.dtype == torch.float32
    assert moved.item() == pytest.approx(mmd_by_loops(x.double(), y.double(), sigma=1.0).item(), rel=1e-3)


def test_distances_of_equal_rows_are_the_smallest():
    """Squares of 5e8 less twice the products are zero but for rounding of 1e-7, of either sign."""
    x = normal(1, 512).repeat(64, 1) * 1e3
    assert squared_distances(x, x).unique().tolist() == [1e-12]
    assert squared_distances(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0]])).tolist() == [[25.0]]
