"""Whether the cluster can hold one trial at all, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from scp_ray.config import Resources
from scp_ray.errors import ResourceError


@dataclass(frozen=True)
class Node:
    """What a node has in all, not what is free now."""

    name: str
    cpus: float
    gpus: float


def cluster_nodes() -> list[Node]:
    """The living nodes of the connected Ray cluster."""
    return [
        Node(node["NodeManagerHostname"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def trial_bundle(resources: Resources, nodes: Sequence[Node]) -> dict[str, float]:
    """CPUs and GPUs of one trial; ``gpus_per_trial: auto`` is 1 where the cluster has GPUs, else 0."""
    gpus = resources.gpus_per_trial
    if gpus == "auto":
        gpus = 1.0 if any(node.gpus for node in nodes) and resources.device != "cpu" else 0.0
    return {"CPU": float(resources.cpus_per_trial), "GPU": float(gpus)}


def check_fits(bundle: dict[str, float], nodes: Sequence[Node], device: str = "auto") -> int:
    """How many trials run side by side.

    Raises ResourceError, naming the nearest request that fits, where no node can ever hold one.
    """
    if device == "cuda" and not bundle["GPU"]:
        raise ResourceError(
            "resources.device is cuda, but a trial gets no GPU: the cluster has none, or gpus_per_trial is 0. "
            "Use --set resources.device=cpu, or a cluster with GPUs."
        )
    side_by_side = sum(_copies(bundle, node) for node in nodes)
    if side_by_side:
        return side_by_side
    held = "; ".join(f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes)
    nearest = min(nodes, key=lambda node: (max(0, bundle["GPU"] - node.gpus), max(0, bundle["CPU"] - node.cpus)))
    settings = {
        "resources.cpus_per_trial": min(bundle["CPU"], nearest.cpus),
        "resources.gpus_per_trial": min(bundle["GPU"], nearest.gpus),
    }
    remedy = " ".join(f"--set {key}={value:g}" for key, value in settings.items())
    raise ResourceError(
        f"a trial asks for {bundle['CPU']:g} CPUs and {bundle['GPU']:g} GPUs on one node, and no node has them "
        f"({held}). The nearest request that fits: {remedy}"
    )


def _copies(bundle: dict[str, float], node: Node) -> int:
    has: dict[str, Any] = {"CPU": node.cpus, "GPU": node.gpus}
    return int(min(has[kind] / amount for kind, amount in bundle.items() if amount))
