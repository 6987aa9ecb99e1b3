"""The C library's allocator: what a tensor leaves is kept for the next one.

glibc maps every block of 32 MB or more afresh and gives it back when it is freed, so that the kernel clears the same
pages again for each layer's output of each batch. On a CPU that was half the time of an evaluation, and a tenth of that
of training (docs/performance.md).
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt(3)
_NEVER, _NONE = -1, 0


def keep_freed_memory() -> None:
    """From now on, for this process; nothing where the C library is not glibc."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, _NONE)
        mallopt(_TRIM_THRESHOLD, _NEVER)


def give_back_freed_memory() -> None:
    """What is kept goes back to the system, once; nothing where the C library is not glibc."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
