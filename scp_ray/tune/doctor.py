"""What would keep a sweep from running here or on a cluster, and what would be better otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scp_ray.errors import LedgerError, ResourceError
from scp_ray.places import AnyPath, any_path
from scp_ray.tune.beside import beside_main_thread
from scp_ray.tune.connection import connected
from scp_ray.tune.facts import existing, facts_here, machine_here
from scp_ray.tune.nodes import on_each
from scp_ray.tune.preflight import cluster_nodes
from scp_ray.tune.probe import probe_folder, write_and_read
from scp_ray.tune.versions import differing, versions_here

FEW_BYTES = 2e9  # below it a hint: a store of 10,000 images of 128 px takes 0.5 GB, a worker with torch 0.5 GB


@dataclass
class Findings:
    """What is there, what cannot run, and what may be mended, a sentence each."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    token: dict[str, str | None] = field(default_factory=dict)
    storage: AnyPath | None = None  # where results go; None where it cannot be used
    faults: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def examine(address: str | None, out: str) -> Findings:
    """Look at this machine without starting Ray, or at every node of a cluster.

    A local Ray takes seconds to start and writes a token; without an address there is nothing that only it could tell.

    Args:
        address: of a running cluster.
        out: where results are to go: a path or a URI.
    """
    found = Findings()
    try:
        found.storage = any_path(out).absolute()
    except LedgerError as error:
        found.faults.append(f"--out: {error}")
    on_disk = str(found.storage) if isinstance(found.storage, Path) else None
    folder = existing(found.storage) if isinstance(found.storage, Path) else found.storage
    _look_at_token(found, os.environ, Path.home(), joins=address is not None)
    if address is None:
        found.nodes = [machine_here(on_disk)]
        if folder is not None and (fault := write_and_read(folder / ".scp_ray-doctor", b"doctor")):
            found.faults.append(fault)
    else:
        try:
            beside_main_thread(lambda: _look_at_cluster(address, found, folder, on_disk))
        except (ResourceError, LedgerError) as error:
            found.faults.append(str(error))
    for node in found.nodes:
        judge(node, versions_here(), found)
    return found


def _look_at_cluster(address: str, found: Findings, folder: AnyPath | None, on_disk: str | None) -> None:
    """Raises ResourceError where no cluster answers, LedgerError where this process cannot write to the folder."""
    with connected(address):
        nodes = cluster_nodes()
        for node, answer in on_each(nodes, facts_here, on_disk).items():
            if isinstance(answer, ResourceError):
                found.faults.append(f"{node.name}: {answer}")
            else:
                found.nodes.append({"name": node.name, "cpus": node.cpus, "gpus": node.gpus} | answer)
        if folder is not None:
            by_node = probe_folder(nodes, folder)
            found.faults += [f"{node.name}: {fault}" for node, faults in by_node.items() for fault in faults]


def judge(node: Mapping[str, Any], driver: Mapping[str, str], found: Findings) -> None:
    """Add what is wrong with a node.

    Args:
        node: name, cpus and gpus as Ray counts them, and its facts.
        driver: versions of this process.
        found: what is added to.
    """
    name, gpus, seen = node["name"], int(node["gpus"]), node["torch_gpus"]
    found.faults += [f"{name}: {fault}" for fault in differing(node["versions"], driver)]
    if node["versions"]["torch"] != driver["torch"]:
        found.hints.append(
            f"{name}: torch is {node['versions']['torch']} there and {driver['torch']} here; numbers may differ in "
            "their last bits. Install the same version on every node."
        )
    if gpus and not seen:
        found.faults.append(
            f"{name}: Ray counts {gpus} GPUs and torch sees none; a trial that is given one fails. Install a CUDA "
            "build of torch, check the driver (nvidia-smi), or set resources.device: cpu and "
            "resources.gpus_per_trial: 0."
        )
    elif seen and not gpus:
        found.hints.append(
            f"{name}: torch sees {seen} GPUs and Ray counts none; no trial is given one. Start Ray there with "
            "--num-gpus."
        )
    for what, key in (("memory", "memory_free"), ("disk of stores", "store_free"), ("disk of --out", "out_free")):
        if node[key] is not None and node[key] < FEW_BYTES:
            found.hints.append(f"{name}: {node[key] / 1e9:.1f} GB of {what} free; free some before a long sweep.")


def _look_at_token(found: Findings, environment: Mapping[str, str], home: Path, *, joins: bool) -> None:
    """Ray's authentication token; its content is not looked at. What Ray takes first is said first."""
    mode = environment.get("RAY_AUTH_MODE")
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else home / ".ray" / "auth_token"
    found.token = {"auth_mode": mode, "from": None, "file_mode": None}
    if mode == "disabled":
        found.hints.append("RAY_AUTH_MODE is disabled: whoever reaches Ray's ports can run code. Unset it.")
    if environment.get("RAY_AUTH_TOKEN"):
        found.token["from"] = "RAY_AUTH_TOKEN"
    elif path.is_file():
        file_mode = path.stat().st_mode & 0o777
        found.token |= {"from": str(path), "file_mode": f"{file_mode:04o}"}
        if file_mode & 0o077:
            found.hints.append(f"others on this machine can read Ray's token. chmod 600 {path}")
    elif named or (mode == "token" and joins):
        found.faults.append(
            f"there is no Ray token at {path}. Copy the cluster's to it (ray get-auth-token), mode 0600."
        )
