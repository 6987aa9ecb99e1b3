"""Soft nearest neighbour scores of more samples than a matrix of their pairs could hold: tile by tile.

Eq. 1 as in ``snnl``, with the sums over j and p taken over tiles of pairs. A tile is used twice, for its rows' sums
and for its columns'. As exponents are never above 0, nothing overflows; rows whose sums drown below 1e-280 are taken
again, relative to their largest exponent.

Channels are scored one at a time, and every sum has a fixed order: a channel's number is the same to the last bit in
whatever company it is scored, with however many threads. On a CPU one thread does the work: on some processors a
product of matrices has other last bits with two. Scorers are what shares it over cores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad, softplus

from scp_ray.maths.snnl import (
    Distance,
    SelfPair,
    checked,
    inverse_of_fixed,
    inverse_of_mean,
    no_pair,
    scaled_maps,
)
from scp_ray.maths.snnl_products import RELEASED_EPSILON, SMALLEST_SUM

TILE = 512  # samples; a tile of doubles (2 MB) stays in the cache
_SUMS = 2**23  # doubles of sums (labellings x groups x N) at a time, 67 MB: more labellings take another pass
_EXPONENTS = 2**21  # doubles of exponents at a time where rows are taken again
_NO_MATTER = 1e-150  # own sums from here on make other / own nothing that a float32 score could show

Rows = slice | Tensor


def snnl_scores_tiled(
    features: Tensor,
    groups: Tensor,
    *,
    distance: Distance = "sqeuclidean",
    temperature: float | Literal["auto"] = "auto",
    self_pair: SelfPair = "exclude",
) -> Tensor:
    """Score every channel over all samples as one batch, in memory that grows with N, not with N x N.

    Arguments and errors are those of ``snnl_scores``. The features may be of any layout; one channel's are copied
    at a time.

    Returns:
        (C,) float64, or (R, C) for groups (R, N).
    """
    maps, labellings = checked(features, groups, distance, temperature, self_pair)
    codes, groups_of = torch.unique(labellings, return_inverse=True)
    parts = []
    with _one_thread():
        for some in torch.split(groups_of, max(1, _SUMS // (len(codes) * len(maps)))):
            labels = _Labellings.of(some, len(codes))
            if self_pair == "exclude" and not labels.paired.any(1).all():
                raise no_pair(len(maps))
            channels = (
                _Exponents.of(channel, distance, temperature) for channel in torch.split(maps, 1, 1)
            )  # one at a time
            parts.append(torch.stack([_scores(channel, labels, self_pair) for channel in channels], 1))
    scores = torch.cat(parts)
    return scores if groups.ndim == 2 else scores[0]


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Labellings(NamedTuple):
    """R labellings of N samples with G groups."""

    code: Tensor  # (R, N) 0..G-1
    member: Tensor  # (G R, N) double, 1 where the sample is of the group
    paired: Tensor  # (R, N) whether another sample is of the same group
    alone: Tensor  # (R, 1) whether all samples are of one group

    @classmethod
    def of(cls, code: Tensor, groups: int) -> _Labellings:
        member = one_hot(code, groups).movedim(2, 0)  # (G, R, N)
        counts = member.sum(2).T
        paired = counts.gather(1, code) > 1
        return cls(code, member.flatten(0, 1).double(), paired, (counts == code.shape[1]).any(1, keepdim=True))

    def own_and_other(self, sums: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """(G R, n) sums by group to those of each sample's own group and of all others, (R, n)."""
        by_group, code = sums.view(-1, len(self.code), sums.shape[1]), self.code[None, :, rows]
        return by_group.gather(0, code)[0], by_group.scatter(0, code, 0.0).sum(0)

    def lost(self, own: Tensor, other: Tensor, rows: Rows, self_pair: str) -> Tensor:
        """(R, n): where the sums have lost digits that the score would show."""
        if self_pair == "numerator_only":  # there the own pair stands beside the own sum
            return own + other < SMALLEST_SUM
        no_others = (other < SMALLEST_SUM) & (own < _NO_MATTER) & ~self.alone
        return self.paired[:, rows] & ((own < SMALLEST_SUM) | no_others)


class _Exponents(NamedTuple):
    """The exponents of one channel, by tile."""

    maps: Tensor  # (N, D), scaled so that half a squared distance is minus an exponent
    half: Tensor  # (N,) half their squares
    zero: Tensor | None  # (N,) all-zero maps, where there are any: of cosine 0 with everything
    at_zero: Tensor  # their exponent

    @classmethod
    def of(cls, maps: Tensor, distance: str, temperature: float | str) -> _Exponents:
        """From (N, 1, D)."""
        if maps.shape[2] == 1:  # torch cuts a sum to a single number by the threads; another 0 moves no distance
            maps = pad(maps, (0, 1))
        scaled, zeros, scale = scaled_maps(maps, distance)
        rows, zero = scaled[0], None if zeros is None or not zeros.any() else zeros[0]
        share = 1.0 if distance == "sqeuclidean" else 0.5  # 1 - cos is half the squared distance
        if temperature == "auto":
            inverse = inverse_of_mean(_mean_distance(rows, zero, share))
        else:
            inverse = torch.as_tensor(inverse_of_fixed(float(temperature), scale), dtype=rows.dtype, device=rows.device)
        inverse = inverse.reshape(())
        rows = rows * (2 * share * inverse).sqrt()
        return cls(rows, rows.square().sum(1) / 2, zero, -inverse)

    def tile(self, rows: Rows, columns: slice) -> Tensor:
        """(n, m) exponents, never above 0."""
        logits = self.maps[rows] @ self.maps[columns].T
        logits.sub_(self.half[rows][:, None]).sub_(self.half[columns]).clamp_(max=0)
        if self.zero is None:
            return logits
        return torch.where(self.zero[rows][:, None] | self.zero[columns], self.at_zero, logits)

    @property
    def itself(self) -> Tensor:
        """(N,) exponents of the own pairs."""
        return torch.zeros_like(self.half) if self.zero is None else torch.where(self.zero, self.at_zero, 0.0)


def _mean_distance(rows: Tensor, zero: Tensor | None, share: float) -> Tensor:
    """Mean over all pairs i != j, from the N maps alone: sum |m_i - m_j|^2 = 2 N sum |m_i|^2 - 2 |sum m_i|^2."""
    samples, kept = len(rows), rows if zero is None else rows[~zero]
    squares, middle = _total(kept.square().sum(1)), _total(_total(kept).square())
    between = 2 * share * (len(kept) * squares - middle).clamp(min=0)
    pairs = samples * (samples - 1)
    return (between + pairs - len(kept) * (len(kept) - 1)) / pairs


def _scores(exponents: _Exponents, labels: _Labellings, self_pair: str) -> Tensor:
    """(R,) scores of one channel."""
    own, other = _log_sums(exponents, labels, self_pair)
    if self_pair == "numerator_only":
        itself_too = torch.logaddexp(own, exponents.itself)
        terms = torch.logaddexp(own, other) - torch.logaddexp(itself_too, own.new_tensor(math.log(RELEASED_EPSILON)))
        return _total(terms.T) / terms.shape[1]
    # -log(own / (own + other)) = log(1 + other / own): exact also where the groups are far apart
    return _total(torch.where(labels.paired, softplus(other - own), 0.0).T) / labels.paired.sum(1)


def _log_sums(exponents: _Exponents, labels: _Labellings, self_pair: str) -> tuple[Tensor, Tensor]:
    """Logarithms of the sums over each sample's own group and over all others, (R, N); -inf for none."""
    everything = slice(None)
    own, other = labels.own_and_other(_sums(exponents, labels.member), everything)
    lost = labels.lost(own, other, everything, self_pair).any(0).nonzero().flatten()
    own, other = own.log_(), other.log_()
    for rows in torch.split(lost, max(1, _EXPONENTS // len(exponents.maps))) if len(lost) else ():
        own[:, rows], other[:, rows] = _log_sums_of(rows, exponents, labels, self_pair)
    return own, other


def _sums(exponents: _Exponents, member: Tensor) -> Tensor:
    """(G R, N) sums of exponentials by group."""
    sums, tiles = torch.zeros_like(member), _tiles(member.shape[1])
    for index, rows in enumerate(tiles):
        for columns in tiles[index:]:
            weights = exponents.tile(rows, columns).exp_()
            if rows == columns:
                weights.fill_diagonal_(0)
            else:
                sums[:, columns].addmm_(member[:, rows], weights)
            sums[:, rows].addmm_(member[:, columns], weights.T)
    return sums


def _log_sums_of(rows: Tensor, exponents: _Exponents, labels: _Labellings, self_pair: str) -> tuple[Tensor, Tensor]:
    """The same of some rows (n,), relative to each one's largest exponent; by itself where that does not do."""
    logits = exponents.tile(rows, slice(None))
    logits[torch.arange(len(rows), device=rows.device), rows] = -math.inf
    largest = logits.amax(1)
    weights = (logits - largest[:, None]).exp_()
    sums = weights.new_zeros(len(labels.member), len(rows))
    for columns in _tiles(logits.shape[1]):
        sums.addmm_(labels.member[:, columns], weights[:, columns].T)
    own, other = labels.own_and_other(sums, rows)
    lost = labels.lost(own, other, rows, self_pair)
    own, other = own.log_() + largest, other.log_() + largest
    for labelling in lost.any(1).nonzero().flatten():
        again, code = lost[labelling].nonzero().flatten(), labels.code[labelling]
        same = code[rows[again]][:, None] == code
        own[labelling, again] = _log_sum(logits[again].masked_fill_(~same, -math.inf))
        other[labelling, again] = _log_sum(logits[again].masked_fill_(same, -math.inf))
    return own, other


def _log_sum(logits: Tensor) -> Tensor:
    """(n, N) to (n,); -inf where all are."""
    largest = logits.amax(1).clamp(min=torch.finfo(logits.dtype).min)
    return _total((logits - largest[:, None]).exp_().T).log() + largest


def _total(terms: Tensor) -> Tensor:
    """The sum over the first axis, in pieces: torch would cut a long sum by the threads it has."""
    return torch.stack([part.sum(0) for part in torch.split(terms, TILE)]).sum(0)


def _tiles(samples: int) -> list[slice]:
    return [slice(start, min(start + TILE, samples)) for start in range(0, samples, TILE)]
