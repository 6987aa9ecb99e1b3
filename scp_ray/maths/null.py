"""Are a channel's groups separated by more than chance? Permuted groups, p-values, false discovery rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

# scores come as float32: a spread of a few of their last digits is rounding, not a distribution
_ROUNDING = 8 * torch.finfo(torch.float32).eps


def permuted_groups(
    label: Tensor,
    group: Tensor,
    count: int,
    *,
    within: Literal["class", "all"],
    generator: torch.Generator,
    unit: Tensor | None = None,
) -> Tensor:
    """Random relabellings of the scoring set, (count, N), for a null distribution of channel scores.

    ``class`` permutes the codes inside each class and so keeps every class's group counts exactly: a channel that shows
    only the class, which the group depends on, is as low in the null as it is in truth. ``all`` permutes them
    over everything: the null that a channel has nothing to do with the group, directly or by way of the class.

    Args:
        label: (N,) classes.
        group: (N,) codes.
        count: how many relabellings.
        within: what is kept together.
        generator: a CPU generator.
        unit: (N,) codes of what belongs together, such as a lesion with several images. Its images then keep one
            common code: codes are exchanged between units of the same number of images (and class). Images of one
            unit permuted singly make a null that is too narrow.

    Raises ValueError for other shapes, or where a unit holds two groups (or classes, within them).
    """
    if label.shape != group.shape or label.ndim != 1 or (unit is not None and unit.shape != label.shape):
        raise ValueError(f"label, group and unit must be (N,), got {tuple(label.shape)} and {tuple(group.shape)}.")
    if within not in ("class", "all"):
        raise ValueError(f"within must be 'class' or 'all', got {within!r}.")
    codes, kind = group.cpu(), label.cpu() if within == "class" else torch.zeros(len(label), dtype=torch.long)
    units, first = _units(len(label), unit)
    codes_of, kind_of = codes[first], kind[first]
    if (codes_of[units] != codes).any() or (kind_of[units] != kind).any():
        raise ValueError("a unit must be of one group and, within classes, of one class; split those that are not.")
    strata = torch.unique(torch.stack([kind_of, units.bincount()]), dim=1, return_inverse=True)[1]
    home = strata.argsort(stable=True)
    relabelled = torch.empty(count, len(strata), dtype=codes.dtype)
    for row in relabelled:
        drawn = torch.randperm(len(strata), generator=generator)
        row[home] = codes_of[drawn[strata[drawn].argsort(stable=True)]]
    return relabelled[:, units].to(group.device)


def p_values(observed: Tensor, null: Tensor, *, spare: Sequence[int] | Tensor = ()) -> Tensor:
    """One-sided p-values (C,) float64, low score = separated, from a null pooled over channels.

    Each channel's R + 1 scores are standardised by their common mean and standard deviation, and

        p_k = (1 + #{pooled null z <= z_k}) / (1 + R * C).

    The observed score is standardised with the null, not by it: under the null the R + 1 scores are exchangeable and
    stay so, whatever R. By the R null scores alone, the observed one would be a new draw beside R that their own
    mean was fitted to, and too often beyond them all (four times too many p-values below 0.01 at R = 9, with 50
    normal channels). In order it is the same as standardising each of the R + 1 by the R others. A separated channel
    narrows its own null, which lowers other p-values by no more than the share of separated channels: what
    Benjamini-Hochberg, which takes all channels for nulls, leaves unused.

    Pooling is needed because R permutations alone give no p below 1 / (R + 1), and a false discovery rate q over
    512 channels asks for q / 512 of the first. It assumes that the null scores of all channels have one shape once
    mean and spread are taken out. Averages over many batches come near to that. A single batch does not: the null
    of a map of one or two dimensions has a longer lower tail than that of 64 (skewness -1.8 against -0.2 for noise),
    so its p comes out too small. Channels share each labelling's group counts per batch, which move all their scores
    together (correlations of 0.5 to 0.7 over 8 batches of noise): the pool then tells less of the tail than R * C
    independent scores would. 100 permutations or more are advised.

    Args:
        observed: (C,) scores under the true groups.
        null: (R, C) scores under R permuted ones, R >= 2.
        spare: channels that are not tested (those already pruned): p = 1 and no part of the pool. Their scores
            may be anything.

    Returns:
        p; 1 also where a channel's null has no spread beyond rounding (a criterion that knows no groups).

    Raises ValueError for other shapes or scores that are not finite.
    """
    if observed.ndim != 1 or null.ndim != 2 or len(null) < 2 or null.shape[1] != len(observed):
        raise ValueError(f"scores must be (C,) and (R, C), R >= 2; got {tuple(observed.shape)}, {tuple(null.shape)}.")
    scores = torch.cat([observed[None], null]).detach().cpu().double()
    tested = torch.ones(scores.shape[1], dtype=torch.bool)
    tested[torch.as_tensor(spare, dtype=torch.long).cpu()] = False
    if not scores[:, tested].isfinite().all():
        raise ValueError("observed and null scores must be finite outside the spare channels.")
    rows = scores[1:]
    tested &= rows.amax(0) - rows.amin(0) > _ROUNDING * rows.abs().amax(0)
    p = torch.ones(scores.shape[1], dtype=torch.float64)
    if tested.any():
        kept = scores[:, tested]
        z = (kept - kept.mean(0)) / kept.std(0)
        pool = z[1:].flatten().sort().values
        p[tested] = (1 + torch.searchsorted(pool, z[0], right=True)).double() / (1 + len(pool))
    return p


def significant(p: Tensor, q: float) -> Tensor:
    """(C,) bool: rejected by Benjamini and Hochberg 1995 at false discovery rate q.

    All p_k up to the largest sorted p_(i) <= q i / C. Holds where the p-values are independent or positively
    dependent, as those of channels that show the same thing are.

    Raises ValueError unless 0 < q < 1 and every p lies in [0, 1].
    """
    if not 0 < q < 1:
        raise ValueError(f"q is the false discovery rate, 0 < q < 1; got {q!r}.")
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p must be (C,) in [0, 1], got {tuple(p.shape)} from {p.tolist()[:8]} ...")
    ordered = p.double().sort().values
    allowed = q * torch.arange(1, len(p) + 1, dtype=torch.float64, device=p.device) / max(1, len(p))
    passed = ordered[ordered <= allowed]
    return p <= passed[-1] if len(passed) else torch.zeros_like(p, dtype=torch.bool)


def _units(samples: int, unit: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each sample's unit as 0..U-1, (N,), and one sample of each unit, (U,)."""
    rows = torch.arange(samples)
    if unit is None:
        return rows, rows
    units = torch.unique(unit.cpu(), return_inverse=True)[1]
    first = units.new_full((int(units.max()) + 1,), samples).scatter_reduce(0, units, rows, "amin")
    return units, first
