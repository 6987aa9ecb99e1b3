"""What a cluster has to refuse, asked before anything is made ready for it."""

from __future__ import annotations

from collections.abc import Sequence

from scp_ray.config import Resources
from scp_ray.data.base import DataSet
from scp_ray.places import AnyPath
from scp_ray.tune.beside import beside_main_thread
from scp_ray.tune.connection import connected
from scp_ray.tune.facts import node_here
from scp_ray.tune.node_types import nodes_to_come
from scp_ray.tune.placement import fits
from scp_ray.tune.preflight import checked_request, cluster_nodes
from scp_ray.tune.probe import probe_nodes


def check_ahead(resources: Resources, data: Sequence[DataSet], folder: AnyPath, address: str | None) -> None:
    """Look at this machine without Ray, or at the cluster's nodes as they are now; what is still to come is waited for
    later.

    Args:
        resources: what a trial asks for.
        data: the sweep's data sets.
        folder: of the sweep; it exists.
        address: of a running cluster.

    Raises ResourceError where a trial fits nowhere, or a node cannot do its part.
    """
    if address is None:
        checked_request(resources, [node_here()])
        return

    def look() -> None:
        with connected(address):
            nodes = cluster_nodes()
            to_come = nodes_to_come(resources.node_types, nodes, resources.scorers + 1)
            bundles = checked_request(resources, nodes, to_come)
            if fits(bundles, nodes):
                probe_nodes(nodes, bundles, folder, data)

    beside_main_thread(look)
