"""Floor 3: what a person asks for, checked all at once, and what identifies it."""

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
