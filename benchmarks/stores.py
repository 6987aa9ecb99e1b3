"""Data sets for the benchmarks: from files, or of random pixels where only the size counts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from scp_ray.data.csv_table import CSVTable
from scp_ray.data.scratch import LEAD
from scp_ray.data.store import open_store
from scp_ray.data.store_writer import write_store
from scp_ray.parts import FairnessData, Split

CLASSES = 8


def listed(folder: Path, files: list[Path], size: int) -> CSVTable:
    """A data set of the files: all but 32 of them train, the classes and groups in turn."""
    os.environ["SCP_RAY_STORE"] = str(folder / "store")
    names = [str(file.relative_to(folder)) for file in files]
    turn = np.arange(len(files))
    split = np.where(turn < 16, "val", np.where(turn < 32, "test", "train"))
    table = pd.DataFrame({"file": names, "label": turn % CLASSES, "sex": turn // CLASSES % 2, "split": split})
    table.to_csv(folder / "metadata.csv", index=False)
    return CSVTable(root=str(folder), image_size=size, file="file", label="label", group="sex", split="split",
                    splits="published")  # fmt: skip


def store_of(folder: Path, files: list[Path], size: int) -> FairnessData:
    """The same, decoded."""
    return listed(folder, files, size).load()


def random_store(path: Path, count: int, size: int) -> None:
    """A store of so many training images of random pixels, written without any file to decode."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 3 * size * size), np.uint8)
    names = [f"{row:06d}" for row in range(count + 32)]
    split = ["train"] * count + ["val"] * 16 + ["test"] * 16
    turn = np.arange(count + 32)
    table = pd.DataFrame(
        {"id": names, "unit": names, "label": turn % CLASSES, "split": split, "sex": turn // CLASSES % 2}
        | {"file": names, "digest": names}
    )
    pixels = path.with_suffix(".pixels")
    with pixels.open("wb") as file:
        file.seek(LEAD)
        file.writelines(noise[row % len(noise)] for row in range(len(names)))
    write_store(path, table, {"image_size": size}, pixels)


def train_of(path: Path) -> Split:
    """The training split of a random store."""
    return open_store(path, {}, ("sex",)).splits["train"]
