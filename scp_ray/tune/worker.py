"""A worker process between two jobs: as it was before the first, but for what is imported and decoded images."""

from __future__ import annotations

import gc
import random
import signal

import numpy as np
import torch

from scp_ray.allocator import give_back_freed_memory, keep_freed_memory
from scp_ray.seeds import derive_seed


def prepare() -> None:
    """Once in its life."""
    keep_freed_memory()
    # Ray ends a worker on SIGTERM, wherever it is; Slurm may send SIGUSR1 to every process instead
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.getsignal(signal.SIGTERM))


def reset(threads: int, job_id: str) -> None:
    """Nothing of the job before is left, whatever a plug-in did: memory, modes, or the place in a random stream."""
    gc.collect()  # a model and its optimizer hold each other through hooks and closures
    give_back_freed_memory()  # what the next job needs is not what this one took
    gc.freeze()  # what is still there is modules and caches: the next time only the next job's is looked through
    torch.cuda.empty_cache()  # nothing where CUDA is not in use
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    # nothing of ours draws from a global stream; what does anyway, draws the same on every worker
    seed = derive_seed(0, "worker", job_id)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
