"""Building a store on all cores against one core's rate of decoding and resizing the same files.

Run: python -m benchmarks.data_build [--pictures DIR] [--count N]
The build also hashes, looks for duplicates, writes and syncs. Goal: 0.9 of (one core's rate x cores).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from benchmarks.measure import arguments, camera_files, in_turns, tell
from benchmarks.stores import listed

SIZE = 128


def main() -> None:
    """Measure both and print the ratio."""
    options = arguments(__doc__ or "", count=3000)
    cores, transform = joblib.cpu_count(), Compose([Resize(SIZE), CenterCrop(SIZE)])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = camera_files(options.pictures, folder / "images", options.count)
        data_set = listed(folder, files, SIZE)
        some = files[:: max(1, cores)]  # as many as fall to one core

        def build() -> None:
            shutil.rmtree(folder / "store", ignore_errors=True)
            data_set.build()

        def decode() -> None:
            for file in some:
                with Image.open(file) as image:
                    np.asarray(transform(image.convert("RGB")))

        built, decoded = in_turns(build, decode)
    rates = [len(files) / built, cores * len(some) / decoded]
    tell(what="build", images=len(files), cores=cores, build_images_s=round(rates[0]),
         cores_decode_images_s=round(rates[1]), ratio=round(rates[0] / rates[1], 3), goal=0.9)  # fmt: skip


if __name__ == "__main__":
    main()
