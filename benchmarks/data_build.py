"""Building a store on all cores against one core's rate of decoding and resizing the same files.

Run: python -m benchmarks.data_build [--pictures DIR] [--count N]
The build also hashes, looks for duplicates, writes and syncs. Goal: 0.9 of (one core's rate x cores). What all cores
decode at once is measured beside it: where that falls behind one core's rate x cores, others use the machine.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from benchmarks.measure import arguments, camera_files, in_turns, tell
from benchmarks.stores import listed

SIZE = 128


def decode(files: list[Path]) -> None:
    """As a data set of torchvision does it."""
    transform = Compose([Resize(SIZE), CenterCrop(SIZE)])
    for file in files:
        with Image.open(file) as image:
            np.asarray(transform(image.convert("RGB")))


def main() -> None:
    """Measure both and print the ratio."""
    options = arguments(__doc__ or "", count=3000)
    cores = joblib.cpu_count()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = camera_files(options.pictures, folder / "images", options.count)
        data_set = listed(folder, files, SIZE)
        some = files[:: max(1, cores)]  # as many as fall to one core

        def build() -> None:
            shutil.rmtree(folder / "store", ignore_errors=True)
            data_set.build()

        def decode_on_all() -> None:
            list(pool.map(decode, [files[core::cores] for core in range(cores)]))

        with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
            built, decoded, on_all = in_turns(build, lambda: decode(some), decode_on_all)
    rates = [len(files) / built, cores * len(some) / decoded, len(files) / on_all]
    tell(what="build", images=len(files), cores=cores, build_images_s=round(rates[0]),
         cores_decode_images_s=round(rates[1]), at_once_images_s=round(rates[2]),
         ratio=round(rates[0] / rates[1], 3), goal=0.9)  # fmt: skip


if __name__ == "__main__":
    main()
