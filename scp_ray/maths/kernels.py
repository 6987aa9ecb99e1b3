"""Gaussian kernels between feature vectors, and two statistics made of them: HSIC and MMD².

Both are computed for all classes at once, from one kernel per pair of samples and masks that say which pairs count,
and in float64: the sums nearly cancel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST = 1e-12  # of a squared distance, and what a row's length is raised by before it divides
FEWEST = 4  # samples of the unbiased HSIC, which divides by n (n - 1) (n - 2) (n - 3)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, d) and (M, d) to (N, M), float64, not below 1e-12."""
    middle = y.detach().double().mean(0)  # the same distances, from smaller squares
    x, y = x.double() - middle, y.double() - middle
    pairs = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T
    return pairs.clamp(min=SMALLEST)


def gaussian_kernel(distances: Tensor, bandwidth: Tensor) -> Tensor:
    """exp(-D / (2 bandwidth)) of squared distances D; the bandwidth is in their unit and not squared."""
    return torch.exp(-distances / (2 * bandwidth))


def unbiased_hsic(x: Tensor, y: Tensor, part: Tensor, parts: int) -> Tensor:
    """The unbiased HSIC of x and y within each part of the samples; 0 in expectation where they are independent.

    With K and L the Gaussian kernels of the part's n rows, scaled to length 1, with zeroed diagonals:

        (tr(K L) + (1'K 1)(1'L 1) / ((n - 1)(n - 2)) - 2 1'K L 1 / (n - 2)) / (n (n - 3))

    A kernel's bandwidth is the mean of all n² squared distances of the part and is not differentiated.

    Args:
        x: (N, d); zero rows stay zero and get no gradient.
        y: (N, e).
        part: (N,) which part a sample belongs to, 0..parts-1.
        parts: P.

    Returns:
        (P,) in the type of x, not clamped: it may be negative. 0 for a part of fewer than 4 samples, where it is not
        defined.

    Source: Song et al. 2012, the unbiased estimator. The code released for the baseline differs: it subtracts the
    diagonal as a row vector, so that every entry off the diagonal is less by 1. For these kernels that changes nothing.
    """
    members = functional.one_hot(part, parts).T.double()
    counted = members.sum(1)
    same = part[:, None] == part[None, :]
    x_pairs, x_sums = _pair_kernel(x, members, same)
    y_pairs, y_sums = _pair_kernel(y, members, same)
    n = counted.clamp(min=FEWEST)
    trace = members @ (x_pairs * y_pairs).sum(1)
    product = (members @ x_sums) * (members @ y_sums) / ((n - 1) * (n - 2))
    crossed = 2 * (members @ (x_sums * y_sums)) / (n - 2)
    hsic = (trace + product - crossed) / (n * (n - 3))
    return torch.where(counted >= FEWEST, hsic, 0.0).to(x.dtype)


def _pair_kernel(rows: Tensor, members: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """(N, N) kernel between two different rows of one part, 0 elsewhere, and its row sums (N,)."""
    unit = _unit_rows(rows.double())
    pairs = squared_distances(unit, unit)
    counted = members.sum(1).clamp(min=1)
    mean = (members @ torch.where(same, pairs, 0.0).sum(1)).detach() / counted.square()
    bandwidth = members.T @ mean
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    kernel = torch.where(same & ~itself, gaussian_kernel(pairs, bandwidth[:, None]), 0.0)
    return kernel, kernel.sum(1)


def _unit_rows(rows: Tensor) -> Tensor:
    """Rows of length 1; a zero row stays zero, without the gradient of 1e12 that dividing by 1e-12 would give it."""
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length == 0, 0.0, rows / (length + SMALLEST))


def squared_mmd(x: Tensor, y: Tensor, x_sets: Tensor, y_sets: Tensor, *, sigma: float) -> Tensor:
    """The squared maximum mean discrepancy between sets of x rows and sets of y rows, P pairs of sets at once.

    The biased form, diagonals included: mean K(x, x) + mean K(y, y) - 2 mean K(x, y). It is not negative but for
    rounding. All terms share one Gaussian kernel, exp(-D / (2 sigma m)), m the mean squared distance between all rows
    of x and all rows of y, whatever their sets; m is not differentiated.

    Args:
        x: (N, d).
        y: (M, d).
        x_sets: (P, N) bool, the rows of x in each set.
        y_sets: (P, M) bool, the rows of y in the set that it is compared with.
        sigma: multiplies m; not squared.

    Returns:
        (P,) in the type of y; 0 where one of the two sets is empty.
    """
    between = squared_distances(x, y)
    bandwidth = sigma * between.mean().detach()
    x_share, y_share = _shares(x_sets), _shares(y_sets)
    means = [
        ((left @ gaussian_kernel(distances, bandwidth)) * right).sum(1)
        for left, distances, right in (
            (x_share, squared_distances(x, x), x_share),
            (y_share, squared_distances(y, y), y_share),
            (x_share, between, y_share),
        )
    ]
    filled = x_sets.any(1) & y_sets.any(1)
    return torch.where(filled, means[0] + means[1] - 2 * means[2], 0.0).to(y.dtype)


def _shares(sets: Tensor) -> Tensor:
    """(P, N) bool to each member's share of its set."""
    return sets.double() / sets.sum(1, keepdim=True).clamp(min=1)
