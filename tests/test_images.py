"""Files to pixels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scp_ray.data.images import decode
from scp_ray.errors import DataError


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def picture(path: Path, colour: tuple[int, int, int] = (10, 20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), colour).save(path)


def test_decode_known_pixels(tmp_path: Path) -> None:
    # 4 wide, 2 high: at size 2 nothing is resized and the middle two columns stay
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "high.png")
    wide, high = decode([tmp_path / "wide.png", tmp_path / "high.png"], 2)
    assert wide.dtype == torch.uint8
    red = [[30, 60], [150, 180]]
    assert wide.tolist() == [[[value + add for value in row] for row in red] for add in (0, 10, 20)]
    assert high.tolist() == wide.transpose(1, 2).tolist()


def test_decode_resizes_the_shorter_side(tmp_path: Path) -> None:
    # 12 x 6, three vertical bands of 4: at size 3 the picture is 6 x 3, and the crop keeps columns 1.5 to 4.5
    pixels = np.zeros((6, 12, 3), np.uint8)
    pixels[:, 4:8] = 200
    Image.fromarray(pixels).save(tmp_path / "bands.png")
    image = decode([tmp_path / "bands.png"], 3)[0]
    assert image.shape == (3, 3, 3)
    assert (image[:, 0] == image[:, 2]).all()  # rows alike
    assert image[0, 0, 1] > 150  # band
    Image.new("RGB", (3, 5), (7, 8, 9)).save(tmp_path / "small.png")
    assert decode([tmp_path / "small.png"], 8)[0].unique().tolist() == [7, 8, 9]  # smaller ones are enlarged


def test_decode_greyscale_becomes_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1, 2], [3, 250]], np.uint8)).save(tmp_path / "grey.png")
    assert decode([tmp_path / "grey.png"], 2)[0].tolist() == [[[1, 2], [3, 250]]] * 3


def test_decode_names_every_unreadable_file(tmp_path: Path) -> None:
    picture(tmp_path / "good1.jpg")
    picture(tmp_path / "good2.jpg")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    whole = (tmp_path / "good1.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    names = ["good1", "text", "good2", "empty", "cut", "gone"]
    with pytest.raises(DataError) as caught:
        decode([tmp_path / f"{name}.jpg" for name in names], 4)
    text = str(caught.value)
    assert "4 of 6 images cannot be read" in text
    assert [name for name in names if f"{name}.jpg" in text] == ["text", "empty", "cut", "gone"]
