"""What a node is and has, looked at on the node itself."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from scp_ray.data.source import store_home
from scp_ray.tune.placement import Node
from scp_ray.tune.versions import versions_here

_MEMORY = Path("/proc/meminfo")


def facts_here(out: str | None) -> dict[str, Any]:
    """Of this machine: versions, GPUs that torch sees, free bytes of memory and of the disks of stores and results.

    Memory is None where the system does not tell, and so is the results' disk where ``out`` is None: they go to none.
    """
    return {
        "host": platform.node(),
        "versions": versions_here(),
        "torch_gpus": torch.cuda.device_count(),
        "memory_free": _memory_free(),
        "store": str(store_home()),
        "store_free": shutil.disk_usage(existing(store_home())).free,
        "out_free": None if out is None else shutil.disk_usage(existing(Path(out))).free,
    }


def machine_here(out: str | None) -> dict[str, Any]:
    """The same without a cluster, with the CPUs and GPUs that Ray would count if it were started."""
    node = node_here()
    return {"name": node.name, "cpus": node.cpus, "gpus": node.gpus} | facts_here(out)


def node_here() -> Node:
    """This machine as the only node of a Ray that would be started here: a container's share and overrides count."""
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec

    counted = ResourceAndLabelSpec().resolve(is_head=True)
    return Node(platform.node(), counted.num_cpus, counted.num_gpus)


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())


def _memory_free() -> int | None:
    if not _MEMORY.exists():
        return None
    line = next(line for line in _MEMORY.read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024
