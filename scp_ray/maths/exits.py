"""Which exit of a multi-exit network speaks for a sample."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Fallback = Literal["most_confident", "final"]


def choose_exits(confidence: Tensor, threshold: float, fallback: Fallback) -> Tensor:
    """(N,) index of the first internal exit that is confident enough, for each sample.

    Args:
        confidence: (E, N) largest softmax probability of each exit, the network's own classifier last.
        threshold: an internal exit with at least this much confidence ends the computation.
        fallback: where none has: the most confident of all exits (Chiu et al. 2023; Shallow-Deep Networks), the earlier
            one on a tie, or the network's own classifier (what the released code evaluates).
    """
    final = len(confidence) - 1
    enough = confidence[:final] >= threshold
    otherwise = confidence.argmax(0) if fallback == "most_confident" else torch.full_like(confidence[0], final).long()
    return torch.where(enough.any(0), enough.long().argmax(0), otherwise) if final else otherwise
