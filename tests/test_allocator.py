"""What the allocator keeps and gives back, as the kernel counts it: pages cleared for this process, pages it holds."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc what to do"),
    pytest.mark.skipif(HUGE.exists() and "[always]" in HUGE.read_text(), reason="the kernel clears 2 MB at a time"),
]

MB, TIMES = 100, 10
PAGES = MB * 2**20 // resource.getpagesize()

PROGRAM = f"""
import resource, sys
import torch
from scp_ray.allocator import give_back_freed_memory, keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
torch.set_num_threads(1)

def held():
    return int(open("/proc/self/statm").read().split()[1])

def fill():
    torch.zeros({MB}, 2**18)

for _ in range({TIMES}):
    fill()  # at first small things come to lie in what is free, and a tensor no longer fits there
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({TIMES}):
    fill()
faults, kept = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, held()
give_back_freed_memory()
print(faults, kept - held())
"""


def seen(how: str) -> tuple[int, int]:
    """Page faults of ten tensors one after the other, and pages given back then."""
    run = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=120)
    faults, given_back = map(int, run.stdout.split())
    return faults, given_back


def test_memory_is_kept_for_the_next_tensor_until_it_is_given_back() -> None:
    faults, given_back = seen("plain")
    assert faults > 0.9 * TIMES * PAGES, "as it is, each is mapped and cleared anew"
    assert given_back < 0.1 * PAGES
    faults, given_back = seen("keep")
    assert faults < 0.1 * PAGES
    assert given_back > 0.9 * PAGES
