"""Nodes that may still start: of the types that the search space names, and of those that Ray tells.

Ray 2.60 has two places to ask. A cluster's own configuration (``ray._private.state.get_cluster_config``, which Ray
Data sizes itself by too) is filled by hosted platforms alone. ``ray up`` leaves its configuration in the head's home;
it is read where this process runs on the head. Elsewhere (KubeRay, a driver beside the head) nothing is told, and
``resources.node_types`` has to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private.state import state

from scp_ray.config.space import NodeType
from scp_ray.errors import ResourceError
from scp_ray.tune.placement import Node

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
_NO_LIMIT = 10**6


def nodes_to_come(given: Sequence[NodeType], nodes: Sequence[Node], enough: int) -> list[Node]:
    """The nodes that may still start, at most ``enough`` of a type; a living node of the same shape counts as one.

    Args:
        given: ``resources.node_types``; where there are some, Ray is not asked.
        nodes: the living nodes.
        enough: as many as a group has bundles.

    Raises ResourceError where the configuration that ``ray up`` left cannot be read.
    """
    to_come = []
    for each in given or [*_reported(), *_launched()]:
        living = sum((node.cpus, node.gpus) == (each.cpus, each.gpus) for node in nodes)
        free = max(0, min(each.max - living, enough))
        to_come += [Node(each.name, each.cpus, each.gpus)] * free
    return to_come


def _reported() -> Iterable[NodeType]:
    """What a platform has told the cluster; -1 stands for no limit."""
    config = state.get_cluster_config()
    for group in config.node_group_configs if config else ():
        limit = group.max_count if group.max_count >= 0 else _NO_LIMIT
        yield _node_type(group.name, group.resources, limit)


def _launched() -> Iterable[NodeType]:
    """The worker types of ``ray up``, where this process runs on its head."""
    here = ray.get_runtime_context().get_node_id()
    heads = {node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"]}
    path = BOOTSTRAP.expanduser()
    if here not in heads or not path.exists():
        return []
    try:
        config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [
            _node_type(name, each["resources"], each.get("max_workers", 0))
            for name, each in config["available_node_types"].items()
            if name != config["head_node_type"]
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ResourceError(
            f"cannot read the node types in {path} ({type(error).__name__}: {error}). Name them in the search space "
            "(resources.node_types), or remove the file where no `ray up` made it."
        ) from error


def _node_type(name: str, resources: Mapping[str, float], limit: int) -> NodeType:
    return NodeType(name=name, cpus=resources.get("CPU", 0), gpus=int(resources.get("GPU", 0)), max=limit)
