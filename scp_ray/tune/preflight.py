"""Whether the cluster can hold a trial, its scorers included, before anything is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from scp_ray.config import Resources
from scp_ray.errors import ResourceError
from scp_ray.terminal import Line, duration
from scp_ray.tune.node_types import nodes_to_come
from scp_ray.tune.placement import Bundle, Node, fits, nearest_request, trial_bundles

POLL_S = 0.5


def cluster_nodes() -> list[Node]:
    """The living nodes of the connected Ray cluster; of several on one host the names tell the node's id."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    hosts = [node["NodeManagerHostname"] for node in alive]
    return [
        Node(
            host if hosts.count(host) == 1 else f"{host}/{node['NodeID'][:8]}",
            node["Resources"].get("CPU", 0),
            node["Resources"].get("GPU", 0),
            node["NodeID"],
        )
        for host, node in zip(hosts, alive, strict=True)
    ]


def place_trials(
    resources: Resources, *, may_grow: bool, wait_s: float, check_on: Callable[[], None] = lambda: None
) -> list[Bundle]:
    """The bundles of a trial, once the connected cluster's nodes can hold them; see ``trial_bundles``.

    Args:
        resources: what a trial and its scorers ask for.
        may_grow: whether nodes may still come; a Ray of our own stays as it is.
        wait_s: how long nodes that may still come are waited for.
        check_on: called while waiting; ends it by raising.

    Raises ResourceError: at once where the group fits nowhere, with the nearest request that does; after ``wait_s``
    where the nodes did not come.
    """
    nodes = cluster_nodes()
    to_come = nodes_to_come(resources.node_types, nodes, resources.scorers + 1) if may_grow else []
    bundles = checked_request(resources, nodes, to_come)
    if not fits(bundles, nodes):
        _wait_for_nodes(bundles, to_come, wait_s, check_on)
    return bundles


def checked_request(resources: Resources, nodes: Sequence[Node], to_come: Sequence[Node] = ()) -> list[Bundle]:
    """The bundles of a trial. Raises ResourceError where these nodes could never hold them, with the nearest request
    that fits.
    """
    bundles = trial_bundles(resources, [*nodes, *to_come])
    if resources.device == "cuda" and not bundles[0]["GPU"]:
        raise ResourceError(
            "resources.device is cuda, but a trial gets no GPU: the cluster has none, or gpus_per_trial is 0. "
            "Use --set resources.device=cpu, or a cluster with GPUs."
        )
    if not fits(bundles, nodes) and not fits(bundles, [*nodes, *to_come]):
        raise ResourceError(_refusal(bundles, nodes, to_come))
    return bundles


def _refusal(bundles: Sequence[Bundle], nodes: Sequence[Node], to_come: Sequence[Node]) -> str:
    also = f", and {_listed(to_come)} may still start" if to_come else ""
    return (
        f"a trial asks for {_asked(bundles)}, and the nodes cannot hold that at once ({_listed(nodes)}{also}). "
        + _nearest(bundles, [*nodes, *to_come])
    )


def _nearest(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> str:
    settings = nearest_request(bundles, nodes)
    if not settings:
        return "No node offers a CPU: add one that does."
    return "The nearest request that fits: " + " ".join(f"--set {key}={value:g}" for key, value in settings.items())


def _wait_for_nodes(
    bundles: Sequence[Bundle], to_come: Sequence[Node], wait_s: float, check_on: Callable[[], None]
) -> None:
    line, asked = Line(), _asked(bundles)
    line.write(
        f"waiting up to {duration(wait_s)} for nodes: a trial asks for {asked}; {_listed(to_come)} may still start.",
        stays=True,
    )
    until = time.monotonic() + wait_s
    # an autoscaler starts nodes for a group that is pending, not for one that will be
    group = placement_group([{kind: amount for kind, amount in bundle.items() if amount} for bundle in bundles])
    try:
        while not fits(bundles, cluster_nodes()):
            check_on()
            if time.monotonic() >= until:
                there = cluster_nodes()
                raise ResourceError(
                    f"waited {duration(wait_s)} for nodes that can hold a trial of {asked}; there are only "
                    f"{_listed(there)}. Nothing was started. Wait longer (--wait 2h), see why the nodes do not come "
                    f"(ray status), or ask for less. {_nearest(bundles, there)}"
                )
            time.sleep(POLL_S)
    finally:
        remove_placement_group(group)


def _asked(bundles: Sequence[Bundle]) -> str:
    """ "4 CPUs and 1 GPUs on one node and for 2 scorers of 1 CPU and 0.5 GPUs each"."""
    head = f"{bundles[0]['CPU']:g} CPUs and {bundles[0]['GPU']:g} GPUs on one node"
    if len(bundles) == 1:
        return head
    return f"{head} and for {len(bundles) - 1} scorers of 1 CPU and {bundles[1]['GPU']:g} GPUs each"


def _listed(nodes: Sequence[Node]) -> str:
    """ "head: 2 CPUs, 0 GPUs; 3 x worker: 4 CPUs, 1 GPUs": nodes that are alike are told once."""
    kinds: dict[tuple[float, float], list[str]] = {}
    for node in nodes:
        kinds.setdefault((node.cpus, node.gpus), []).append(node.name)
    told = []
    for (cpus, gpus), names in kinds.items():
        count = f"{len(names)} x " if len(names) > 1 else ""
        few = list(dict.fromkeys(names))
        who = ", ".join(few[:3]) + (", ..." if len(few) > 3 else "")
        told.append(f"{count}{who}: {cpus:g} CPUs, {gpus:g} GPUs")
    return "; ".join(told)
