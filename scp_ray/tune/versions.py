"""The versions that have to agree between the nodes of a cluster."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

from scp_ray import __version__

Versions = dict[str, str]


def versions_here() -> Versions:
    """Of this machine's Python and packages."""
    return {
        "Python": platform.python_version(),
        "Ray": version("ray"),
        "scp_ray": __version__,
        "torch": version("torch"),
    }


def differing(node: Mapping[str, str], driver: Mapping[str, str]) -> list[str]:
    """What cannot work together, a sentence each. Of Python the minor version counts here, torch's may differ.

    A driver's Python has to be the cluster's to the last number: Ray refuses it when it connects.
    """
    return [
        f"{name} is {node[name]} there and {driver[name]} on the driver. Install the same version on every node."
        for name in ("Python", "Ray", "scp_ray")
        if _counting(name, node) != _counting(name, driver)
    ]


def _counting(name: str, versions: Mapping[str, str]) -> str:
    return versions[name].rpartition(".")[0] if name == "Python" else versions[name]
