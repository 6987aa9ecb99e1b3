"""What adversarial methods minimise, reverse and project."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_NORM = 1e-5  # of a gradient that another one is projected away from


def confusion_loss(logits: Tensor) -> Tensor:
    """Cross-entropy between the uniform distribution and the softmax of ``logits`` (N, G), averaged over samples.

    Its minimum, ln G, is at equal logits (Tzeng et al. 2015, Alvi et al. 2018).
    """
    return -functional.log_softmax(logits, 1).mean()


def balanced_cross_entropy(logits: Tensor, group: Tensor) -> Tensor:
    """Mean over the groups that are present of each one's mean cross-entropy.

    Args:
        logits: (N, G).
        group: (N,) codes 0..G-1; any other raises RuntimeError or IndexError.
    """
    # ones added up, not bincount, which a GPU is waited for by
    counts = torch.zeros_like(logits[0]).index_add_(0, group, torch.ones_like(logits[:, 0]))
    # torch divides by the sum of the samples' weights, which here is the number of groups present
    return functional.cross_entropy(logits, group, weight=1 / counts.clamp(min=1))


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: Tensor) -> Tensor:
        ctx.save_for_backward(strength)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (strength,) = ctx.saved_tensors
        return -strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: Tensor) -> Tensor:
    """``x`` itself; on the way back its gradient is multiplied by ``-strength`` (a tensor of no dimensions)."""
    same: Tensor = _Reversal.apply(x, strength)
    return same


def reversal_ramp(progress: Tensor) -> Tensor:
    """2 / (1 + exp(-10 p)) - 1 for progress p in [0, 1]: 0 at the start, 0.99991 at the end."""
    return 2 / (1 + torch.exp(-10 * progress)) - 1


def projected_gradient(wanted: Tensor, unwanted: Tensor, alpha: float) -> Tensor:
    """g_c - alpha g_d - (<g_c, g_d> / |g_d|^2) g_d: descends g_c without helping g_d (Zhang et al. 2018).

    Args:
        wanted: g_c, of any shape.
        unwanted: g_d, of the same shape. Where its norm is at most 1e-5 nothing is projected.
        alpha: how much of g_d is climbed on top.
    """
    norm = unwanted.norm()
    along = (wanted * unwanted).sum() / norm.clamp(min=SMALLEST_NORM).square()
    return wanted - (alpha + torch.where(norm > SMALLEST_NORM, along, 0.0)) * unwanted
