"""A device with memory of its own on a machine without a GPU: "sim". Not to be imported beside other tests.

``device.cpp`` says what it does. ``build`` compiles it; ``register`` makes it known to the process's torch, for good.
"""

from __future__ import annotations

import shutil
import subprocess
import types
from pathlib import Path
from typing import Any

import torch

SOURCE = Path(__file__).with_name("device.cpp")


def compiler() -> str | None:
    """A C++ compiler; None where there is none."""
    return shutil.which("g++") or shutil.which("clang++")


def build(folder: Path) -> Path:
    """The library, compiled against the headers that torch brings along."""
    package = Path(torch.__file__).parent
    library, linked = folder / "libsimulated.so", package / "lib"
    include = [package / "include", package / "include/torch/csrc/api/include"]
    command: list[Any] = [compiler(), "-std=c++20", "-O0", "-w", "-fPIC", "-shared", SOURCE, "-o", library]
    command += [f"-I{path}" for path in include] + [f"-L{linked}", f"-Wl,-rpath,{linked}", "-ltorch_cpu", "-lc10"]
    subprocess.run(command, check=True, timeout=300)
    return library


def register(library: Path) -> None:
    """``tensor.to("sim")`` from here on."""
    torch.ops.load_library(library)
    torch.utils.rename_privateuse1_backend("sim")
    module: Any = types.ModuleType("torch.sim")
    module.is_available = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.set_device = lambda device: None
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: None  # what is drawn there is drawn from the CPU's default generator
    torch._register_device_module("sim", module)


def waits() -> int:
    """How often, so far, the CPU would have waited for the device: a value looked at, a copy that was not put off."""
    return int(torch.ops.simulated.waits())
