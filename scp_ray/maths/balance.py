"""Which training images an epoch draws, and how often."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def balanced_weights(
    label: Tensor, group: Tensor, over: Literal["class", "group", "class_group", "plain"]
) -> Tensor | None:
    """(N,) sampling weights, drawn from with replacement; None for ``plain``, every image once.

    Each class, each group, or each (class, group) cell that occurs is drawn equally often. ``class`` is the released
    recipe.

    Args:
        label: (N,) classes.
        group: (N,) codes of the primary sensitive attribute.
        over: what is balanced.
    """
    if over == "plain":
        return None
    cell = {"class": label, "group": group, "class_group": label * (int(group.max()) + 1) + group}[over]
    return (1 / torch.bincount(cell).clamp(min=1).double())[cell]
