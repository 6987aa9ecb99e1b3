"""Soft nearest neighbour scores of all channels of a layer at once.

Paper, Eq. 1, for the map m_i of one channel and sample i of a batch of b samples with groups c:

    score = -1/b sum_i log( sum_{j != i, c_j = c_i} exp(-|m_i - m_j|^2 / T) / sum_{p != i} exp(-|m_i - m_p|^2 / T) )

A low score means that the channel's maps separate the groups. The released code differs: cosine distance,
T = 1, and the sample itself counted in the numerator but not in the denominator, with 1e-9 added there
(``distance="cosine", temperature=1.0, self_pair="numerator_only"``).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from scp_ray.errors import ScoreError
from scp_ray.maths.snnl_products import RELEASED_EPSILON, groupings_of, product_scores

Distance = Literal["sqeuclidean", "cosine"]
SelfPair = Literal["exclude", "numerator_only"]

# Doubles held at a time for one block of channels: a few such tensors live at once, and stay in the cache.
BLOCK_ELEMENTS = 2**19
SUMS = 2**18  # doubles of sums over a group held at a time, over all groups and labellings
GPU_TIMES = 16  # as many of both: what a GPU waits for is the next call, not the memory
_STEEPEST = 1e300  # the largest 1 / T: its products with distances stay finite


def snnl_scores(
    features: Tensor,
    groups: Tensor,
    *,
    distance: Distance = "sqeuclidean",
    temperature: float | Literal["auto"] = "auto",
    self_pair: SelfPair = "exclude",
) -> Tensor:
    """Score every channel of a batch of feature maps; low = the maps separate the groups.

    Args:
        features: (N, C, H, W) or (N, C, D), finite.
        groups: (N,) integer codes, or (R, N) for R labellings of the same samples.
        distance: squared Euclidean (the paper) or 1 - cosine (the released code).
        temperature: T of Eq. 1, in units of the distance. "auto" is, per channel, the mean distance over the
            pairs i != j, which makes the score independent of the channel's scale (the paper gives no T).
        self_pair: "exclude" leaves the pair (i, i) out of both sums (the paper); "numerator_only" counts it in
            the numerator (the released code) and adds 1e-9 there.

    Returns:
        (C,) float32, or (R, C) for groups (R, N). Samples without a partner of their group are skipped under
        "exclude". A constant map has distance 0 everywhere, whatever T. Values beyond float32 are its largest.

    Raises:
        ValueError: wrong shapes, values or options.
        ScoreError: under "exclude", no sample has a partner of its own group.
    """
    maps, labellings = checked(features, groups, distance, temperature, self_pair)
    options = (distance, temperature, self_pair)
    groupings = groupings_of(labellings)
    at_once = max(1, _times(maps) * SUMS // groupings[0].member.numel() // len(groupings))
    parts = [product_scores(some, groupings, *options, _block(maps)) for some in torch.split(maps, at_once, 1)]
    limit = torch.finfo(torch.float32).max
    scores = _filled_in(torch.cat(parts, 1), maps, labellings, *options).clamp(-limit, limit).float()
    return scores if groups.ndim == 2 else scores[0]


def _block(maps: Tensor) -> int:
    """How many channels of (N, C, D) are worked on at a time."""
    samples, _, size = maps.shape
    return max(1, _times(maps) * BLOCK_ELEMENTS // (samples * max(samples, size)))


def _times(maps: Tensor) -> int:
    return 1 if maps.device.type == "cpu" else GPU_TIMES


def checked(
    features: Tensor, groups: Tensor, distance: str, temperature: float | str, self_pair: str
) -> tuple[Tensor, Tensor]:
    """Features as (N, C, D) and groups as (R, N) on their device. Raises ValueError."""
    if features.ndim not in (3, 4) or not features.is_floating_point():
        raise ValueError(f"features must be float (N, C, H, W) or (N, C, D), got {tuple(features.shape)}.")
    if groups.ndim not in (1, 2) or groups.shape[-1] != features.shape[0]:
        raise ValueError(
            f"groups must be (N,) or (R, N) with N = {features.shape[0]} samples, got {tuple(groups.shape)}."
        )
    if features.shape[0] < 2:
        raise ValueError(f"a score needs at least 2 samples, got {features.shape[0]}.")
    if distance not in ("sqeuclidean", "cosine"):
        raise ValueError(f"distance must be 'sqeuclidean' or 'cosine', got {distance!r}.")
    if self_pair not in ("exclude", "numerator_only"):
        raise ValueError(f"self_pair must be 'exclude' or 'numerator_only', got {self_pair!r}.")
    if temperature != "auto" and not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"temperature must be 'auto' or a finite number above 0, got {temperature!r}.")
    return features.detach().flatten(2), groups.to(features.device).reshape(-1, groups.shape[-1])


def _pair_logits(maps: Tensor, distance: str, temperature: float | str) -> Tensor:
    """(N, c, D) to (c, N, N): minus distance over T, the diagonal holding the sample's own pair.

    In float64: with a T small against the distances an exponent runs into the thousands, where float32 keeps
    only three digits of it.
    """
    rows, zero, scale = scaled_maps(maps, distance)
    pairs = _squared_distances(rows)
    if zero is not None:
        # half the squared distance of the unit maps is 1 - cos; taken from the cosine, a small angle drowns in
        # rounding, which the "auto" temperature would then blow up
        pairs.div_(2)
        # an all-zero map has cosine 0 with everything, itself included, as in the released code
        pairs.masked_fill_(zero[:, :, None] | zero[:, None, :], 1.0)
    return pairs.mul_(-_inverse_temperature(pairs, temperature, scale))


def scaled_maps(maps: Tensor, distance: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(N, c, D) to float64 rows (c, N, D) whose distances count, each channel scaled to one so that nothing overflows.

    With them, for the cosine, which maps are zero, (c, N): the others are unit maps. For the squared distance, what
    each channel was divided by, (c, 1, 1).
    """
    rows = maps.transpose(0, 1).double()
    largest = _positive(rows.abs().amax((1, 2), keepdim=True))
    rows = rows / largest
    if distance == "cosine":
        rows = rows / _positive(rows.abs().amax(2, keepdim=True))
        rows = rows / _positive(rows.norm(dim=2, keepdim=True))
        return _centred(rows), (rows == 0).all(2), None
    rows = _centred(rows)
    spread = _positive(rows.abs().amax((1, 2), keepdim=True))
    return rows / spread, None, spread * largest


def _centred(rows: Tensor) -> Tensor:
    """(c, N, D) moved to the middle: one shift makes a constant map exactly zero, the next keeps the squares small."""
    rows = rows - rows[:, :1]
    return rows - rows.mean(1, keepdim=True)


def _squared_distances(rows: Tensor) -> Tensor:
    """(c, N, D) to (c, N, N), 0 on the diagonal."""
    gram = rows @ rows.mT
    square = gram.diagonal(dim1=1, dim2=2)
    pairs = (square[:, :, None] + square[:, None, :]).sub_(gram, alpha=2).clamp_(min=0)
    pairs.diagonal(dim1=1, dim2=2).zero_()
    return pairs


def _inverse_temperature(pairs: Tensor, temperature: float | str, scale: Tensor | None) -> Tensor | float:
    """1 / T in units of ``pairs``, (c, 1, 1) or a number; 0 where T is 0, so that all exponents are 0."""
    if temperature == "auto":
        samples = pairs.shape[1]
        off_diagonal = pairs.sum((1, 2), keepdim=True) - pairs.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        mean = off_diagonal / (samples * (samples - 1))
        return inverse_of_mean(mean)
    return inverse_of_fixed(float(temperature), scale)


def inverse_of_mean(mean: Tensor) -> Tensor:
    """1 / T of the "auto" temperature; 0 where all distances are."""
    return torch.where(mean > 0, 1 / _positive(mean), 0.0)


def inverse_of_fixed(temperature: float, scale: Tensor | None) -> Tensor | float:
    """1 / T in units of the distances of ``scaled_maps``, never infinite."""
    if scale is None:
        return min(1 / max(temperature, 1e-300), _STEEPEST)
    return (scale / math.sqrt(temperature)).square().clamp(max=_STEEPEST)


def _positive(x: Tensor) -> Tensor:
    """x where above 0, else 1: a divisor that leaves zero maps zero."""
    return torch.where(x > 0, x, 1.0)


def _filled_in(
    scores: Tensor, maps: Tensor, labellings: Tensor, distance: str, temperature: float | str, self_pair: str
) -> Tensor:
    """(R, C) scores whose NaN are computed from exponents of every pair, (c, N, N) of few channels at a time."""
    lost = scores.isnan()
    for channels in torch.split(lost.any(0).nonzero().flatten(), _block(maps)):
        logits = _pair_logits(maps[:, channels], distance, temperature)
        for row in lost[:, channels].any(1).nonzero().flatten():
            again = _block_scores(logits, labellings[row], self_pair)
            scores[row, channels] = torch.where(lost[row, channels], again, scores[row, channels])
    return scores


def _block_scores(logits: Tensor, groups: Tensor, self_pair: str) -> Tensor:
    """(c, N, N) exponents and (N,) groups to (c,) scores."""
    same = groups[:, None] == groups[None, :]
    itself = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    own = logits.masked_fill(~same | itself, -math.inf).logsumexp(2)
    other = logits.masked_fill(same, -math.inf).logsumexp(2)
    if self_pair == "numerator_only":
        numerator = torch.logaddexp(own, logits.diagonal(dim1=1, dim2=2))
        numerator = torch.logaddexp(numerator, numerator.new_tensor(math.log(RELEASED_EPSILON)))
        return (torch.logaddexp(own, other) - numerator).mean(1)
    paired = same.sum(1) > 1
    if not paired.any():
        raise no_pair(len(groups))
    # -log(own / (own + other)) = log(1 + other / own): exact also where the groups are far apart
    return softplus(other[:, paired] - own[:, paired]).mean(1)


def no_pair(samples: int) -> ScoreError:
    """What is raised where no sample has a partner."""
    return ScoreError(
        f"none of the {samples} samples has another one of its own group, so Eq. 1 is not defined; "
        "use a larger batch or self_pair='numerator_only'."
    )
