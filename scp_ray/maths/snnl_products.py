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
FLATTEST = 1e-8  # of the sum of squares; where the maps spread less around their mean, a difference loses digits
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
    maps: Tensor, groupings: list[Grouping], distance: str, temperature: float | str, self_pair: str, block: int
) -> Tensor:
    """(N, c, D) maps and R labellings to (R, c) float64 scores; NaN where they cannot be had in this way.

    The pairs of ``block`` channels are worked on at a time. Of maps in doubles no score is had: their squares may leave
    a double's range, those of floats do not.
    """
    if maps.dtype == torch.float64:
        return maps.new_full((sum(len(grouping.codes) for grouping in groupings), maps.shape[1]), math.nan)
    blocks = [_block_sums(some, groupings, distance, temperature) for some in torch.split(maps, block, 1)]
    usable = torch.cat([each.usable for each in blocks])
    halves = torch.cat([each.halves for each in blocks])
    parts = []
    for place, grouping in enumerate(groupings):
        own, other = _own_and_others(torch.cat([each.sums[place] for each in blocks]), grouping)
        parts.append(_scores(own, other, grouping, halves, self_pair))
    return torch.where(usable & (halves.amax(1) <= LARGEST_SQUARE), torch.cat(parts), math.nan)


class _Sums(NamedTuple):
    """Over the pairs of some channels."""

    usable: Tensor  # (c,)
    halves: Tensor  # (c, N): |m|^2 / 2
    sums: list[Tensor]  # of each grouping (c, r G, N), that lack the factor exp(-halves)


def _block_sums(maps: Tensor, groupings: list[Grouping], distance: str, temperature: float | str) -> _Sums:
    """Of (N, c, D) maps."""
    rows = maps.transpose(0, 1).to(torch.float64, memory_format=torch.contiguous_format, copy=True)
    usable = _scale_(rows, distance, temperature)
    pairs = torch.bmm(rows, rows.mT)
    halves = pairs.diagonal(dim1=1, dim2=2) / 2
    weights = (-halves).exp()[:, None]
    pairs.exp_()
    pairs.diagonal(dim1=1, dim2=2).zero_()
    # the pairs are symmetric, and a product is faster with the few rows on the left
    return _Sums(usable, halves, [torch.bmm(weights * grouping.member.flatten(0, 1), pairs) for grouping in groupings])


def _scale_(rows: Tensor, distance: str, temperature: float | str) -> Tensor:
    """Centre and scale maps (c, N, D) in one pass, so that half a squared distance is minus an exponent.

    Half of the squared distance of unit maps is 1 - cos. Over all pairs i != j the mean of |m_i - m_j|^2 is 2 / (N - 1)
    times the spread, sum |m_i|^2 - N |mean|^2. Returns (c,) whether that difference keeps its digits and, for the
    cosine, every map has a direction: zero has none.
    """
    samples, cosine = rows.shape[1], distance == "cosine"
    norms = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    factors = torch.where(norms > 0, 1 / norms, 0.0) if cosine else torch.ones_like(norms)
    mean = torch.bmm(factors.mT / samples, rows)
    total = (norms * factors).square_().sum((1, 2))
    spread = total - samples * mean.square().sum((1, 2))
    share = 1.0 if cosine else 2.0
    if temperature == "auto":
        scale = torch.where(spread > 0, (samples - 1) / spread, 0.0).sqrt_()
    else:
        scale = torch.full_like(spread, share / float(temperature)).sqrt_()
    torch.addcmul(mean * -scale[:, None, None], rows, factors * scale[:, None, None], out=rows)
    usable: Tensor = (spread > FLATTEST * total) | (total == 0)
    return usable & (norms > 0).all(1)[:, 0] if cosine else usable


def _own_and_others(sums: Tensor, grouping: Grouping) -> tuple[Tensor, Tensor]:
    """Sums (c, r G, N) over each group to those over each sample's own group and over the others, (r, c, N)."""
    sums = sums.view(len(sums), *grouping.member.shape)
    place = grouping.codes[None, :, None].expand(len(sums), -1, -1, -1)
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
