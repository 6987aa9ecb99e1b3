"""Tables of three rows in the layouts of ISIC 2019 and Fitzpatrick-17k, with their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

ISIC_TABLES = {split: f"isic2019_{split}_pretraining.csv" for split in ("train", "val", "test")}
FITZPATRICK_TABLES = {
    "train": "fitzpatrick17k.csv",
    "val": "fitzpatrick17k_vali.csv",
    "test": "fitzpatrick17k_test.csv",
}
ISIC_HEADER = "image,lesion_id,low,gender,split"
ISIC_ROWS = ("a,L1,0,0,train", "b,,7,1,val", "c,L3,3,1,test")
FITZPATRICK_HEADER = "md5hash,fitzpatrick_scale,label,split"
FITZPATRICK_ROWS = ("a,1,psoriasis,train", "b,-1,acne,val", "c,6,eczema,test")


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def picture(path: Path, seed: int) -> None:
    """Noise: a picture that is like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def folder(root: Path, header: str, rows: tuple[str, ...]) -> Path:
    """metadata.csv with its images."""
    root.mkdir(parents=True, exist_ok=True)
    write(root / "metadata.csv", header, *rows)
    for seed, row in enumerate(rows):
        picture(root / "images" / (row.split(",")[0] + ".jpg"), seed)
    return root
