"""A data set of twelve pictures that no other is like, for tests of building its store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scp_ray.data import listed
from scp_ray.data.isic2019 import ISIC2019

SIZE = 32
ROW = 3 * SIZE * SIZE
LEAD = 8192  # before the pixels, for a store's header
SPLITS = ("train", "train", "val", "test")


def picture(seed: int) -> Image.Image:
    """64 x 64, unlike any other: 8 x 8 random colours, enlarged."""
    colours = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(colours).resize((64, 64), Image.Resampling.BICUBIC)


def save(root: Path, name: str, seed: int, format: str = "BMP") -> Path:
    """Files are known by their content; BMP files of one size are equally long."""
    path = root / "images" / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, format=format)
    return path


def line(row: int, sex: str | None = None) -> str:
    return f"i{row:03},L{row},{row % 8},{row % 2 if sex is None else sex},{SPLITS[row % 4]}"


def write_rows(root: Path, lines: Sequence[str]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["image,lesion_id,low,gender,split", *lines]) + "\n"
    (root / "metadata.csv").write_text(text, encoding="utf-8")


def make(root: Path, count: int, format: str = "BMP") -> Path:
    write_rows(root, [line(row) for row in range(count)])
    for row in range(count):
        save(root, f"i{row:03}", row, format)
    return root


def data_set(root: Path, **options: Any) -> ISIC2019:
    return ISIC2019(str(root), **{"image_size": SIZE, **options})


def loaded(data: ISIC2019) -> Any:
    """As another process would load it."""
    listed._load.cache_clear()
    return data.load()


def expected(seed: int, size: int = SIZE) -> list[Any]:
    """The pixels of a 64 x 64 picture, which is not cropped."""
    return np.asarray(picture(seed).resize((size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1).tolist()


def assert_holds(data: ISIC2019, seeds: dict[str, int]) -> None:
    """The data set consists of these ids, and the picture of each has this seed."""
    splits = loaded(data).splits.values()
    pixels = {name: image for split in splits for name, image in zip(split.id, split.image, strict=True)}
    assert sorted(pixels) == sorted(seeds)
    for name, seed in seeds.items():
        assert pixels[name].tolist() == expected(seed, data.image_size)


def numbered(rows: Sequence[int] | range) -> dict[str, int]:
    return {f"i{row:03}": row for row in rows}


def entries(folder: Path) -> set[str]:
    """Names in the store's folder, all but the lock and what comparing kept."""
    return {path.name for path in folder.iterdir() if path.name != ".lock" and not path.name.startswith("alike-")}
