"""One ranking of channels, and one p-value of each, from several sensitive attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def combined_rank(
    scores: Tensor, how: Literal["mean", "worst"] = "mean", *, spare: Sequence[int] | Tensor = ()
) -> Tensor:
    """(C,) float64: the channels' ranks by several attributes as one score; low = prune first.

    Per attribute, rank 1 is the lowest score and ties share their mean rank. Ranks and not scores, since the
    scores of attributes with other group shares lie elsewhere.

    * ``mean``: the mean rank over attributes.
    * ``worst``: the largest rank, the last place a channel takes anywhere. This is what rank aggregation calls
      the worst rank (Wald et al. 2012): only a channel that is low for every attribute comes first. The other
      reading, the attribute that suffers worst, is the smallest rank ("best rank"): there each attribute in turn names
      its most sensitive channel. It is not offered: of A attributes, A channels would share the first place.

    Args:
        scores: (A, C), one row per attribute, no NaN outside ``spare``.
        how: see above.
        spare: channels that take no rank (those already pruned); they come out as NaN.

    Raises ValueError for other shapes or options, or NaN.
    """
    if scores.ndim != 2 or not len(scores):
        raise ValueError(f"scores must be (A, C) with at least one attribute, got {tuple(scores.shape)}.")
    if how not in ("mean", "worst"):
        raise ValueError(f"how must be 'mean' or 'worst', got {how!r}.")
    free = torch.ones(scores.shape[1], dtype=torch.bool)
    free[torch.as_tensor(spare, dtype=torch.long).cpu()] = False
    kept = scores.detach().cpu()[:, free].contiguous()
    if kept.isnan().any():
        raise ValueError(f"scores of attributes {kept.isnan().any(1).nonzero().flatten().tolist()} hold NaN.")
    ordered = kept.sort(1).values
    below, up_to = (torch.searchsorted(ordered, kept, right=right) for right in (False, True))
    ranks = (below + 1 + up_to).double() / 2
    combined = torch.full((scores.shape[1],), torch.nan, dtype=torch.float64)
    combined[free] = ranks.mean(0) if how == "mean" else ranks.amax(0)
    return combined


def combined_p(p: Tensor) -> Tensor:
    """(A, C) p-values to (C,): the smallest over attributes times their number A, at most 1 (Bonferroni).

    Small where the channel separates the groups of at least one attribute, however the attributes depend on each
    other. That a channel separates all of them, which a low ``worst`` rank suggests, would be the largest p.
    """
    if p.ndim != 2 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p must be (A, C) in [0, 1] with at least one attribute, got {tuple(p.shape)}.")
    return (p.amin(0) * len(p)).clamp(max=1)
