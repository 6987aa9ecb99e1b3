"""Which channels of a layer go next."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

import torch
from torch import Tensor

from scp_ray.maths.null import significant


def channels_per_round(pr_c: float, channels: int) -> int:
    """k = max(1, round half up(pr_c * C)) with C the original channel count: the same k in every round.

    Raises ValueError unless 0 < pr_c < 1.
    """
    if not 0 < pr_c < 1:
        raise ValueError(f"pr_c is the share of a layer's channels pruned per round, 0 < pr_c < 1; got {pr_c!r}.")
    # Decimal of the printed number: 0.145 * 100 is 14.499... in binary and would round down
    return max(1, int((Decimal(str(pr_c)) * channels).to_integral_value(ROUND_HALF_UP)))


def lowest_channels(scores: Tensor, k: int, *, spare: Sequence[int] | Tensor = ()) -> Tensor:
    """Indices of the k lowest scores, ascending by index; ties go to the lower index.

    Args:
        scores: (C,), no NaN outside ``spare``.
        k: how many.
        spare: channels that are not to be chosen (those already pruned: they are constant maps and score high).

    Raises ValueError where fewer than k channels are left or a score is NaN.
    """
    free = torch.ones(len(scores), dtype=torch.bool)
    free[torch.as_tensor(spare, dtype=torch.long).cpu()] = False
    candidates = free.nonzero().flatten()
    if not 0 <= k <= len(candidates):
        raise ValueError(f"cannot choose {k} channels: {len(candidates)} of {len(scores)} are left.")
    values = scores.detach().cpu()[candidates]
    if values.isnan().any():
        raise ValueError(f"scores of channels {candidates[values.isnan()].tolist()} are NaN; they cannot be ranked.")
    order = torch.sort(values, stable=True).indices[:k]
    return candidates[order].sort().values


def pick_significant(scores: Tensor, p: Tensor, k: int, q: float, *, spare: Sequence[int] | Tensor = ()) -> Tensor:
    """Indices of the at most k lowest scores among the significant channels, ascending by index; may be empty.

    Args:
        scores: (C,), no NaN among the significant ones.
        p: (C,) p-values of the scores.
        k: how many at most.
        q: false discovery rate over the channels that are not spare (``significant``).
        spare: channels that are neither tested nor chosen.

    Raises ValueError for a negative k, other shapes, or p or q out of range.
    """
    if scores.shape != p.shape or k < 0:
        raise ValueError(f"needs k >= 0 and as many p as scores; got {k}, {tuple(p.shape)}, {tuple(scores.shape)}.")
    chosen = torch.ones(len(scores), dtype=torch.bool)
    chosen[torch.as_tensor(spare, dtype=torch.long).cpu()] = False
    chosen[chosen.clone()] = significant(p.detach().cpu()[chosen], q)
    return lowest_channels(scores, min(k, int(chosen.sum())), spare=(~chosen).nonzero().flatten())
