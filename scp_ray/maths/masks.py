"""Masks that survive an optimizer.

A mask is a parametrization, not a one-off zeroing: momentum and weight decay would move the weights again.
Masks are part of the state dict, and a second mask on the same parameter is joined to the first by AND.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_MASK_KEY = ".parametrizations."


class Mask(nn.Module):
    """x where the mask is true, else exactly 0 (also where x is NaN or infinite)."""

    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", keep)

    def forward(self, x: Tensor) -> Tensor:
        """(...,) to (...,)."""
        return torch.where(self.keep, x, 0.0)  # type: ignore[arg-type]


def mask_parameter_(module: nn.Module, name: str, keep: Tensor) -> None:
    """Hold the entries of ``module.<name>`` where ``keep`` (broadcastable, bool) is False at zero for good."""
    mask = parameter_mask(module, name)
    if mask is None:
        parameter = getattr(module, name)
        full = keep.to(parameter.device).expand(parameter.shape).clone()
        parametrize.register_parametrization(module, name, Mask(full))
    else:
        mask &= keep.to(mask.device)
        full = mask
    with torch.no_grad():
        module.parametrizations[name].original.masked_fill_(~full, 0.0)  # type: ignore[index,union-attr]


def parameter_mask(module: nn.Module, name: str) -> Tensor | None:
    """The mask of ``module.<name>``, True = kept, or None where it has none."""
    if not parametrize.is_parametrized(module, name):
        return None
    for part in module.parametrizations[name]:  # type: ignore[index]
        if isinstance(part, Mask):
            return part.keep  # type: ignore[return-value]
    return None


def mask_channels_(
    conv: nn.Module, norms: Iterable[nn.Module], channels: Iterable[int] | Tensor, *, bias: bool = True
) -> None:
    """Silence output channels of a convolution: its weight rows, its bias and the affine part of its norms.

    Args:
        conv: a convolution with weight (C, ...).
        norms: the normalisation layers fed by it alone; their weight and bias (C,) are masked too.
        channels: which of the C channels.
        bias: False keeps the convolution's bias, as the released code does: the channel then outputs a constant.
    """
    weight: Tensor = conv.weight  # type: ignore[assignment]
    keep = torch.ones(weight.shape[0], dtype=torch.bool, device=weight.device)
    keep[torch.as_tensor(list(channels), dtype=torch.long, device=weight.device)] = False
    mask_parameter_(conv, "weight", keep.view(-1, *[1] * (weight.ndim - 1)))
    if bias and getattr(conv, "bias", None) is not None:
        mask_parameter_(conv, "bias", keep)
    for norm in norms:
        for name in ("weight", "bias"):
            if getattr(norm, name, None) is not None:
                mask_parameter_(norm, name, keep)


def load_masked_state_(module: nn.Module, state: Mapping[str, Any]) -> None:
    """``load_state_dict`` that first makes the masks which ``state`` holds (strict: no key may be left over)."""
    for key in state:
        head, found, tail = key.partition(_MASK_KEY)
        if not found:
            continue
        # the first parametrization of "net.conv" is kept under "net.conv.parametrizations.weight.0.keep"
        owner, name = module.get_submodule(head), tail.split(".")[0]
        if tail.endswith(".keep") and parameter_mask(owner, name) is None:
            keep = torch.ones_like(state[key], device=getattr(owner, name).device)
            parametrize.register_parametrization(owner, name, Mask(keep))
    module.load_state_dict(state)
