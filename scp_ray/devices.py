"""Which device a trial runs on, and what it holds there."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import torch

from scp_ray.errors import ResourceError

_STATUS = Path("/proc/self/status")


def choose_device(wanted: str, *, given_gpu: bool = False) -> torch.device:
    """auto, cpu or cuda to a device. Raises ResourceError where a GPU is promised and CUDA is not there."""
    available = torch.cuda.is_available()
    if wanted == "cuda" or (wanted == "auto" and given_gpu):
        if not available:
            raise ResourceError(
                "this trial was given a GPU, but torch sees no CUDA device. Install a CUDA build of torch, check the "
                "driver (nvidia-smi), or set resources.device: cpu and resources.gpus_per_trial: 0."
            )
        return torch.device("cuda")
    return torch.device("cpu" if wanted == "cpu" or not available else "cuda")


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring anew: a worker runs one job after another."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _STATUS.exists():
        with suppress(OSError):  # not every container may; the peak is then the process's
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """The most memory held since the last reset: of the GPU where there is one, else of the process (resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if _STATUS.exists():
        peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
