"""The sums of Eq. 1 (see ``snnl``) for a block of channels by two products of matrices and one exponential a pair.

With maps m centred and scaled so that an exponent is minus half a squared distance,

    exp(-|m_i - m_j|^2 / 2) = exp(-|m_i|^2 / 2) exp(m_i m_j) exp(-|m_j|^2 / 2)

so that the sum over a group's samples j is a product with exp(m_i m_j); the first factor is the same in both sums of
a sample. Where a factor or a sum would leave the range in which doubles keep their digits, the score is NaN and the
caller takes the long way.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus

RELEASED_EPSILON = 1e-9
SMALLEST_SUM = 1e-280  # of exponentials: below it they lose digits
LARGEST_SQUARE = 300.0  # |m|^2 / 2: the factors lie between e^-300 and e^600
ROUNDING = 1e-24  # of 1 - cos of unit maps: doubles of equal directions differ by 1e-30
_SMALLEST = 1e-100  # doubles from here to its inverse can be squared; floats always
TOGETHER = 4  # so many labellings get sums of their own each, equal to the last bit to those of a call of its own


class Grouping(NamedTuple):
    """Some of a call's labellings, for all of its blocks."""

    codes: Tensor  # (r, N), from 0
    member: Tensor  # (r, G, N) float64: 1 where a sample is of the group
    paired: Tensor  # (r, 1, N): whether a sample has another one of its group
    pairs: Tensor  # (r, 1): how many have


def groupings_of(labellings: Tensor) -> list[Grouping]:
    """Of (R, N) labellings, as many at a time as are summed over together."""
    codes, groups = torch.unique(labellings, return_inverse=True)
    found = []
    for some in torch.split(groups, 1 if len(groups) <= TOGETHER else len(groups)):
        member = one_hot(some, len(codes)).movedim(2, 1).double()
        paired = (member.sum(2).gather(1, some) > 1)[:, None]
        found.append(Grouping(some, member, paired, paired.sum(2)))
    return found


def product_scores(
    maps: Tensor, groupings: list[Grouping], distance: str, temperature: float | str, self_pair: str
) -> Tensor:
    """(N, c, D) maps and R labellings to (R, c) float64 scores; NaN where they cannot be had in this way."""
    rows, usable = _rows(maps, distance)
    halves, beyond_rounding = _scale_(rows, distance, temperature)
    usable &= beyond_rounding & (halves.amax(1) <= LARGEST_SQUARE)
    weights = (-halves).exp()
    pairs = torch.bmm(rows, rows.mT).exp_()
    pairs.diagonal(dim1=1, dim2=2).zero_()
    parts = []
    for grouping in groupings:
        own, other = _sums(pairs, weights, grouping)
        parts.append(_scores(own, other, grouping, halves, self_pair))
    return torch.where(usable, torch.cat(parts), math.nan)


def _rows(maps: Tensor, distance: str) -> tuple[Tensor, Tensor]:
    """(c, N, D) doubles, centred, whose distances count, and (c,) whether no map is beyond what is done here."""
    rows = maps.transpose(0, 1).to(torch.float64, memory_format=torch.contiguous_format, copy=True)
    usable = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    if distance == "cosine":
        usable = _unit_(rows, squares_fit=maps.dtype != torch.float64)
    if maps.dtype == torch.float64:
        rows -= rows[:, :1].clone()  # maps may differ by less than the rounding of their mean; floats do not
    rows -= rows.mean(1, keepdim=True)
    if maps.dtype == torch.float64:
        largest = _largest(rows, (1, 2))
        usable &= (largest == 0) | ((largest > _SMALLEST) & (largest < 1 / _SMALLEST))
    return rows, usable


def _unit_(rows: Tensor, *, squares_fit: bool) -> Tensor:
    """Scale maps (c, N, D) to length 1; returns (c,) whether all of a channel's have a direction: zero has none.

    ``squares_fit``: the squares of all entries are doubles that keep their digits, as those of floats are.
    """
    if not squares_fit:
        largest = _largest(rows, 2)
        rows.div_(torch.where(largest > 0, largest, 1.0)[:, :, None])
    norms = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    rows.div_(torch.where(norms > 0, norms, 1.0))
    directed: Tensor = (norms > 0).all(1)[:, 0]
    return directed


def _largest(rows: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Of the absolute values; faster than by a copy of them, or by the norm of order infinity."""
    return torch.maximum(rows.amax(dim), -rows.amin(dim))


def _scale_(rows: Tensor, distance: str, temperature: float | str) -> tuple[Tensor, Tensor]:
    """Scale rows so that half a squared distance is minus an exponent; half their squares, (c, N).

    And whether the distances, which "auto" scales to one, are more than the rounding of unit maps, (c,).
    Over all pairs i != j of centred maps the mean of |m_i - m_j|^2 is 2 / (N - 1) times the sum of |m_i|^2. Half of
    the squared distance of unit maps is 1 - cos.
    """
    squares = torch.linalg.vector_norm(rows, dim=2).square_()
    share = 0.5 if distance == "cosine" else 1.0
    told = torch.ones_like(squares[:, 0], dtype=torch.bool)
    if temperature == "auto":
        mean = 2 * share * squares.sum(1) / (rows.shape[1] - 1)
        inverse = torch.where(mean > 0, 1 / mean, 0.0)
        if distance == "cosine":
            told = mean > ROUNDING
    else:
        inverse = torch.full_like(squares[:, 0], 1 / float(temperature))
    rows *= (2 * share * inverse).sqrt()[:, None, None]
    halves: Tensor = squares * (share * inverse)[:, None]
    return halves, told


def _sums(pairs: Tensor, weights: Tensor, grouping: Grouping) -> tuple[Tensor, Tensor]:
    """Sums over each sample's own group and over the others, (r, c, N)."""
    member, codes = grouping.member, grouping.codes
    # the pairs are symmetric, and a product is faster with the few rows on the left
    sums = torch.bmm(weights[:, None] * member.flatten(0, 1), pairs).view(len(pairs), *member.shape)  # (c, r, G, N)
    place = codes[None, :, None].expand(len(sums), -1, -1, -1)
    own, other = sums.gather(2, place)[:, :, 0], sums.scatter(2, place, 0.0).sum(2)
    return own.movedim(1, 0), other.movedim(1, 0)


def _scores(own: Tensor, other: Tensor, grouping: Grouping, halves: Tensor, self_pair: str) -> Tensor:
    """(r, c) of sums (r, c, N) that lack the factor exp(-halves)."""
    if self_pair == "numerator_only":
        numerator = torch.log(own * (-halves).exp() + 1 + RELEASED_EPSILON) + halves
        scores = (torch.log(own + other) - numerator).mean(2)
        lost = (own + other < SMALLEST_SUM).any(2)
    else:
        # -log(own / (own + other)) = log(1 + other / own): exact also where the groups are far apart
        terms = softplus(other.log() - own.log())
        scores = torch.where(grouping.paired, terms, 0.0).sum(2) / grouping.pairs
        lost = (grouping.paired & (torch.minimum(own, other) < SMALLEST_SUM)).any(2) | (grouping.pairs == 0)
    return torch.where(lost, math.nan, scores)
