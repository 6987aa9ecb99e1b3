"""Batch normalisation with statistics and affine parameters of each group's own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Route(NamedTuple):
    """Which samples of a batch go through which branch."""

    rows: tuple[Tensor, ...]  # of each branch, ascending; may be empty
    back: Tensor  # (N,) where each sample stands once the branches' outputs are joined

    @staticmethod
    def of(codes: Tensor, branches: int) -> Route:
        """Route of a batch with branch numbers ``codes`` (N,). Raises ValueError where one is not 0..branches-1."""
        rows = tuple((codes == branch).nonzero().flatten() for branch in range(branches))
        if sum(map(len, rows)) != len(codes):
            came = sorted(set(codes.tolist()) - set(range(branches)))
            raise ValueError(f"group codes {came} have no branch; there are branches 0 to {branches - 1}.")
        return Route(rows, torch.cat(rows).argsort())


class GroupBatchNorm2d(nn.Module):
    """A BatchNorm2d per group, each a copy of the one it is made of; samples stay in their order.

    Who calls the network says by ``routed`` which sample belongs to which branch. A branch without samples is left
    as it is. In train mode a branch that gets one value per channel has no variance: it then normalises by its
    running statistics and leaves them as they are.
    """

    def __init__(self, norm: nn.BatchNorm2d, branches: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(copy.deepcopy(norm) for _ in range(branches))
        self.route: Route | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape."""
        if self.route is None:
            raise RuntimeError("a norm of several groups was called without their codes; call it inside routed().")
        branches = zip(self.branches, self.route.rows, strict=True)
        parts = [_normalised(branch, x[rows]) for branch, rows in branches if len(rows)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)[self.route.back]


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(norm, nn.BatchNorm2d)
    if norm.training and x[:, 0].numel() == 1:
        mean, variance = norm.running_mean, norm.running_var
        return functional.batch_norm(x, mean, variance, norm.weight, norm.bias, training=False, eps=norm.eps)
    normalised: Tensor = norm(x)
    return normalised


@contextmanager
def routed(network: nn.Module, codes: Tensor, branches: int) -> Iterator[None]:
    """Inside the block every GroupBatchNorm2d of ``network`` sends the batch's samples (N,) to their branches."""
    route = Route.of(codes, branches)
    norms = [part for part in network.modules() if isinstance(part, GroupBatchNorm2d)]
    for norm in norms:
        norm.route = route
    try:
        yield
    finally:
        for norm in norms:
            norm.route = None
