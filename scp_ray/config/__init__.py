"""Floor 3: what a person asks for, checked all at once, and what identifies it.

Names are loaded on first use: the list of shipped spaces needs none of what checks a space.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scp_ray.config.identity import ResolvedTrial, resolve
    from scp_ray.config.space import Arm, Resources, SweepConfig
    from scp_ray.config.trial import TrialConfig
    from scp_ray.config.yaml import find_space, read_space, shipped_spaces

__all__ = [
    "Arm",
    "ResolvedTrial",
    "Resources",
    "SweepConfig",
    "TrialConfig",
    "find_space",
    "read_space",
    "resolve",
    "shipped_spaces",
]

_HOME = {
    "Arm": "space",
    "ResolvedTrial": "identity",
    "Resources": "space",
    "SweepConfig": "space",
    "TrialConfig": "trial",
    "find_space": "yaml",
    "read_space": "yaml",
    "resolve": "identity",
    "shipped_spaces": "yaml",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
