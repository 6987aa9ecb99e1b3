"""Whether every node can do its part of a sweep: same versions, the same data, and the sweep's folder shared."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress

import ray

from scp_ray.data.base import DataSet, table_digest, units_digest
from scp_ray.errors import DataError, LedgerError, ResourceError
from scp_ray.ledger.files import write_bytes
from scp_ray.places import AnyPath, any_path, remove_tree
from scp_ray.tune.nodes import on_each
from scp_ray.tune.placement import Bundle, Node
from scp_ray.tune.versions import differing, versions_here

_SAME_STORE = "Every node needs the same credentials, endpoint and scp_ray[s3]."


def probe_nodes(nodes: Sequence[Node], bundles: Sequence[Bundle], folder: AnyPath, data: Sequence[DataSet]) -> None:
    """Ask every node that a trial or a scorer may run on; nothing is left behind. A single node is this machine.

    Args:
        nodes: of the cluster.
        bundles: of a trial.
        folder: of the sweep; it exists.
        data: the sweep's data sets.

    Raises ResourceError naming each node that cannot do its part, why, and what to do.
    """
    if len(nodes) == 1 and nodes[0].id == ray.get_runtime_context().get_node_id():
        return
    used = [node for node in nodes if any(node.cpus >= each["CPU"] and node.gpus >= each["GPU"] for each in bundles)]
    with_digests = [(data_set, _digest(data_set)) for data_set in data]
    faults = probe_folder(used, folder)
    for node, answer in on_each(used, check_node, versions_here(), with_digests).items():
        faults.setdefault(node, []).extend([str(answer)] if isinstance(answer, ResourceError) else answer)
    told = [f"{node.name}: {fault}" for node, each in faults.items() for fault in dict.fromkeys(each)]
    if told:
        raise ResourceError("\n  ".join(["the sweep cannot run on these nodes; nothing was started.", *told]))


def check_node(driver: dict[str, str], data: Sequence[tuple[DataSet, str]]) -> list[str]:
    """On a node: what is wrong there with versions and data; no image is decoded.

    Args:
        driver: the driver's versions.
        data: each data set with the digest that its tables have on the driver.
    """
    faults = differing(versions_here(), driver)
    for data_set, digest in data:
        try:
            data_set.check_files()
            if _digest(data_set) != digest:
                faults.append(
                    f"the tables of {data_set.plugin_name} are not those of the driver. Give every node the same."
                )
        except (DataError, OSError) as error:
            faults.append(f"{error} Every node has to see the data at the same path.")
    return faults


def probe_folder(nodes: Sequence[Node], folder: AnyPath) -> dict[Node, list[str]]:
    """By node, what is wrong with a folder that all of them should share with this process.

    A path that exists everywhere is not yet shared: the node has to find what is written here, and the other way round.
    """
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        write_bytes(probe / "driver", probe.name.encode())
        faults = {}
        for node, answer in on_each(nodes, leave_mark, str(probe)).items():
            if isinstance(answer, ResourceError):
                faults[node] = [str(answer)]
            elif answer:
                faults[node] = [answer]
            elif not (probe / node.id).exists():
                faults[node] = [_not_shared(str(folder))]
        return faults
    finally:
        with suppress(OSError):  # of another node's, say; it is in nobody's way
            remove_tree(probe)


def leave_mark(probe: str) -> str:
    """On a node: read the driver's file and write one of its own; what went wrong, or nothing."""
    above, _, name = probe.rpartition("/")
    try:
        folder = any_path(probe)
        known = (folder / "driver").read_bytes() == name.encode()
    except (FileNotFoundError, NotADirectoryError):  # and nothing is made here: it would stay
        known = False
    except (OSError, LedgerError) as error:
        return _refused("read", above, error)
    if not known:
        return _not_shared(above)
    return write_and_read(folder / ray.get_runtime_context().get_node_id(), name.encode(), keep=True)


def write_and_read(path: AnyPath, content: bytes, *, keep: bool = False) -> str:
    """Write a file and read it back; what went wrong, or nothing."""
    try:
        write_bytes(path, content)
        same = path.read_bytes() == content
        if not keep:
            path.unlink()
    except (OSError, LedgerError) as error:
        return _refused("write", str(path.parent), error)
    return "" if same else f"{path.parent} gives back other bytes than it was given. Check that disk or store."


def _refused(what: str, folder: str, error: Exception) -> str:
    remedy = _SAME_STORE if "://" in folder else "Give this user the right to, free space, or choose another --out."
    return f"cannot {what} {folder}: {str(error).rstrip('.')}. {remedy}"


def _not_shared(folder: str) -> str:
    remedy = _SAME_STORE if "://" in folder else "Put --out on a disk that every node mounts at the same path."
    return f"{folder} is not the folder that the driver sees there. {remedy}"


def _digest(data_set: DataSet) -> str:
    rows = data_set.rows()
    return table_digest(rows, data_set.attribute_names) + units_digest(rows)
