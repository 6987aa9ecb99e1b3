"""Two ways of doing the same work, timed in turns, so that both meet the same machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

REPEATS = 5
SHARED = Path(__file__).parents[2] / "shared" / "data" / "isic2019_mini" / "images"


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one run; on a GPU the work is waited for."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(*works: Callable[[], Any], repeats: int = REPEATS) -> list[float]:
    """Median seconds of each, after one run of each that does not count."""
    for work in works:
        seconds(work)
    times = [[seconds(work) for work in works] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def arguments(description: str, **options: Any) -> argparse.Namespace:
    """``--pictures`` and one option for each keyword, with that default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pictures", type=Path, default=SHARED, help="a folder of JPEG files")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    return parser.parse_args()


def processor() -> str:
    """The CPU's model and how many cores this machine shows of it; nothing that names the machine."""
    try:
        told = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        told = None
    return f"{told[1] if told else platform.machine()} CPU, {os.cpu_count()} cores"


def tell(**numbers: Any) -> None:
    """One JSON line, with the machine."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    machine = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps(machine | numbers), flush=True)


def in_child(module: str, *arguments: object) -> list[float]:
    """The numbers that a process of its own prints: ``python -m benchmarks.<module>`` with these arguments."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    return [float(word) for word in run.stdout.split()]


def camera_files(pictures: Path, folder: Path, count: int, shorter: int = 450) -> list[Path]:
    """So many different JPEG files of the size that ISIC 2019 has: real pictures, enlarged and shifted.

    Raises FileNotFoundError where ``pictures`` holds none.
    """
    sources = sorted(pictures.glob("*.jpg"))
    if not sources:
        raise FileNotFoundError(f"{pictures} holds no JPEG files; name a folder by --pictures.")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(count):
        with Image.open(sources[index % len(sources)]) as source:
            shift = index // len(sources)
            image = source.convert("RGB").crop((shift, 0, source.width, source.height))
        scale = shorter / min(image.size)
        files.append(folder / f"picture-{index:05d}.jpg")
        image.resize([round(side * scale) for side in image.size]).save(files[-1], quality=90)
    return files
