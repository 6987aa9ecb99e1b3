"""Initial weights: none, ImageNet's, or a file's."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from scp_ray.activations import last_linear
from scp_ray.errors import BackboneError

State = dict[str, Tensor]


def load_weights(weights: str, imagenet_name: str | None) -> State | None:
    """The state dict that ``weights`` (none, imagenet or a path) names; None for none.

    Files are safetensors or torch state dicts; nothing in them is executed.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return _imagenet(imagenet_name)
    path = Path(weights)
    if not path.is_file():
        raise BackboneError(f"weights: {weights!r} is not 'none', 'imagenet' or a file that exists.")
    try:
        if path.suffix == ".safetensors":
            return load(path.read_bytes())
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BackboneError(
            f"weights: {weights} is damaged or holds pickled objects, which are not loaded. "
            "Save model.state_dict() with torch.save or safetensors."
        ) from error
    except (SafetensorError, EOFError, RuntimeError) as error:
        raise BackboneError(f"weights: {weights} is damaged and cannot be read: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackboneError(f"weights: {weights} is no state dict of tensors. Save model.state_dict() instead.")
    return state


def _imagenet_entry(name: str | None):  # type: ignore[no-untyped-def]
    from torchvision.models import get_model_weights

    entry = None if name is None else getattr(get_model_weights(name), "IMAGENET1K_V1", None)
    if entry is None:
        of = name or "this backbone"
        raise BackboneError(f"weights: imagenet is not to be had for {of}. Allowed: 'none' or a path.")
    return entry


def _imagenet(name: str | None) -> State:
    entry = _imagenet_entry(name)
    try:
        # a file that is in the cache already is not checked against its hash: nothing in it may be executed either
        state: State = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        kept = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
        raise BackboneError(f"weights: imagenet: {kept} is damaged. Delete it; it is fetched anew.") from error
    except (urllib.error.URLError, OSError) as error:
        raise BackboneError(
            f"weights: imagenet could not be downloaded ({error}). With a network the file is fetched once and kept; "
            f"without one, bring {Path(entry.url).name} from elsewhere and set weights: PATH to it."
        ) from error
    return state


def weights_digest(weights: str, imagenet_name: str | None) -> str:
    """ "none", the hash torchvision publishes in the file's name, or the SHA-256 of a file's content."""
    if weights == "none":
        return "none"
    if weights == "imagenet":
        return f"imagenet-{Path(_imagenet_entry(imagenet_name).url).stem}"
    path = Path(weights)
    if not path.is_file():
        raise BackboneError(f"weights: {weights!r} is not 'none', 'imagenet' or a file that exists.")
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


@lru_cache
def _file_digest(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_head_(module: nn.Module, num_classes: int) -> None:
    """A fresh last linear layer where the loaded one has another number of classes."""
    name, head = last_linear(module)
    if head.out_features != num_classes:
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, nn.Linear(head.in_features, num_classes))
