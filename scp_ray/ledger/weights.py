"""Weights, masks and buffers as safetensors: nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from scp_ray.ledger.files import unreadable, write_bytes
from scp_ray.places import AnyPath


def write_weights(path: AnyPath, state: Mapping[str, Tensor]) -> None:
    """Put a state at ``path`` in one step. Raises LedgerError."""
    write_bytes(path, save({key: value.detach().cpu().contiguous() for key, value in state.items()}))


def read_weights(path: AnyPath) -> dict[str, Tensor]:
    """A safetensors file. Raises LedgerError where it is missing or damaged; else see ``unreadable``."""
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error, "Delete its folder; running again makes it anew.") from error
