"""What is changed for a while and always put back: train and eval mode, torch's default generators, precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Every submodule in eval mode inside the block, each as it was after it."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def drawing_from(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """The default generators of the CPU and of ``device`` seeded inside the block, as they were after it.

    For what can draw from nothing else: torch's weight initialisation, dropout, a DataLoader's shuffling.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def working_in(precision: str, network: nn.Module) -> Iterator[None]:
    """The network's forward pass as autocast does it in bfloat16, channels last in memory; "float32" changes nothing.

    What goes in and comes out is float32, and so are weights, losses and steps: a method's own terms are as precise as
    ever. The layout is the one that a GPU's convolutions in bfloat16 are fast with.
    """
    if precision == "float32":
        yield
        return
    forward, device = network.forward, next(network.parameters()).device.type

    def in_bfloat16(image: Tensor) -> Any:
        with torch.autocast(device, torch.bfloat16):
            return forward(image.contiguous(memory_format=torch.channels_last)).float()

    own = network.__dict__.get("forward")  # where somebody has put another one in its place
    network.to(memory_format=torch.channels_last)
    network.forward = in_bfloat16
    try:
        yield
    finally:
        del network.forward
        if own is not None:
            network.forward = own
        network.to(memory_format=torch.contiguous_format)
