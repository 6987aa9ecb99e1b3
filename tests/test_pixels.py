"""One image file to pixels, and what is said of a file that cannot be used."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile
from torchvision.transforms import CenterCrop, Compose, Resize

from scp_ray.data.pixels import DUPLICATE_BITS, hash_points, look_at, look_at_all, perceptual_hashes

Pixels = NDArray[np.uint8]
ORIENTATION = 0x0112
# what a camera stores of an upright picture, by the places of row 0 and column 0 in the EXIF standard (tag 274)
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],  # column 0 is the right side
    3: lambda upright: upright[::-1, ::-1],  # row 0 is the bottom, column 0 the right
    4: lambda upright: upright[::-1],  # row 0 is the bottom
    5: lambda upright: upright.swapaxes(0, 1),  # row 0 is the left side, column 0 the top
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),  # row 0 is the right side, column 0 the top
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),  # row 0 is the right side, column 0 the bottom
    8: lambda upright: upright[::-1].swapaxes(0, 1),  # row 0 is the left side, column 0 the bottom
}


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, content: Any, mode: str | None = None, **options: Any) -> Path:
    """Without loss, whatever the name says: files are known by their content."""
    image = content if isinstance(content, Image.Image) else Image.fromarray(np.ascontiguousarray(content))
    assert mode is None or image.mode == mode
    image.save(path, format=options.pop("format", "PNG"), **options)
    return path


def pixels(path: Path, size: int) -> Pixels:
    """(3, S, S)."""
    seen = look_at(path, size)
    assert not seen.problem
    return np.frombuffer(seen.pixels, np.uint8).reshape(3, size, size)


def one_pixel(path: Path) -> list[int]:
    """The colour of a picture of one colour."""
    values = pixels(path, 4).reshape(3, -1)
    assert (values == values[:, :1]).all()
    return values[:, 0].tolist()


def real_pictures(shared: Path, count: int) -> list[Path]:
    """Some of each real data set, always the same ones."""
    folders = [shared / "data" / name / "images" for name in ("isic2019_mini", "fitzpatrick17k_mini")]
    return [path for folder in folders for path in sorted(folder.iterdir())[:: 354 // count][:count]]


# ---- resizing and cropping ----


def test_crop_without_resizing(tmp_path: Path) -> None:
    # 4 wide, 2 high: at size 2 nothing is resized and the middle two columns stay
    stored = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    wide = pixels(save(tmp_path / "wide.png", stored), 2)
    high = pixels(save(tmp_path / "high.png", stored.transpose(1, 0, 2)), 2)
    red = np.array([[30, 60], [150, 180]])
    assert wide.tolist() == [(red + add).tolist() for add in (0, 10, 20)]
    assert high.tolist() == wide.transpose(0, 2, 1).tolist()


def test_halving_weighs_four_neighbours(tmp_path: Path) -> None:
    # 12 x 6 in three vertical bands of 4, the middle one 200. Halved, a column is 1/8, 3/8, 3/8, 1/8 of the four
    # around it: 0, 25, 175, 175, 25, 0; three columns of six begin at the even one of 1 and 2, as torchvision rounds.
    bands = np.zeros((6, 12, 3), np.uint8)
    bands[:, 4:8] = 200
    assert pixels(save(tmp_path / "bands.png", bands), 3).tolist() == [[[175, 175, 25]] * 3] * 3
    upright = pixels(save(tmp_path / "upright.png", bands.transpose(1, 0, 2)), 3)
    assert upright.tolist() == [[[175] * 3, [175] * 3, [25] * 3]] * 3


def test_smaller_pictures_are_enlarged(tmp_path: Path) -> None:
    # doubled, a new pixel is 3/4 of the nearest and 1/4 of the next; at the edge the nearest alone
    stored = np.zeros((2, 2, 3), np.uint8)
    stored[:, 1] = 100
    assert pixels(save(tmp_path / "small.png", stored), 4).tolist() == [[[0, 25, 75, 100]] * 4] * 3


@pytest.mark.parametrize("size", [17, 64, 128, 160, 200])
def test_real_pictures_are_what_torchvision_makes_of_them(shared: Path, size: int) -> None:
    """Of 213 x 160 and of many other shapes; one level apart where the last bit of a weight differs."""
    theirs, shapes, means = Compose([Resize(size), CenterCrop(size)]), set(), []
    for path in real_pictures(shared, 40):
        with Image.open(path) as image:
            shapes.add(image.size)
            expected = np.asarray(theirs(image)).transpose(2, 0, 1)
        apart = np.abs(pixels(path, size).astype(int) - expected)
        assert apart.max() <= 1
        means.append(apart.mean())
    assert np.median(means) < 0.01
    assert len(shapes) > 15


def test_the_middle_of_a_thin_picture(tmp_path: Path) -> None:
    # 20,000 by 1: enlarged as a whole it would be 160,000 by 8. The crop is the middle, a pixel wide, from half of the
    # black one to half of the white one: the white one's share in column k is (k + 1/2) / 8.
    stored = np.zeros((1, 20_000, 3), np.uint8)
    stored[:, 10_000:] = 255
    ramp = [round(255 * (2 * column + 1) / 16) for column in range(8)]
    assert pixels(save(tmp_path / "thin.png", stored), 8).tolist() == [[ramp] * 8] * 3


def test_pixels_are_made_only_where_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(64, 64))
    assert look_at(path, None).pixels == b""
    assert len(look_at(path, 8).pixels) == 3 * 8 * 8


def test_a_chunk_keeps_its_order(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{value}.png", Image.new("RGB", (9, 9), (value,) * 3)) for value in (30, 10, 20)]
    paths.insert(1, tmp_path / "gone.png")
    (tmp_path / "pixels").touch()
    looks = look_at_all(paths, 8, tmp_path / "pixels", 2 * 192)
    assert [seen.problem for seen in looks] == ["", "missing", "", ""]
    assert not any(seen.pixels for seen in looks)
    rows = (tmp_path / "pixels").read_bytes()
    assert [rows[at * 192] for at in (2, 4, 5)] == [30, 10, 20]  # the missing one's row stays
    assert len(rows) == 6 * 3 * 8 * 8
    assert [looks[at - 2].checksum for at in (2, 4, 5)] == [zlib.crc32(rows[at * 192 :][:192]) for at in (2, 4, 5)]


# ---- what has to be converted ----


def test_plain_pictures_are_nothing_to_mention(tmp_path: Path) -> None:
    for format in ("PNG", "JPEG", "BMP", "WEBP"):
        seen = look_at(save(tmp_path / "plain.jpg", noise(16, 16), format=format), 8)
        assert (seen.kind, seen.rotated, seen.problem, seen.truncated) == ("", False, "", False)


def test_greyscale(tmp_path: Path) -> None:
    path = save(tmp_path / "grey.png", np.array([[1, 2], [3, 250]], np.uint8), "L")
    assert pixels(path, 2).tolist() == [[[1, 2], [3, 250]]] * 3
    assert look_at(path, None).kind == "greyscale"


def test_black_and_white(tmp_path: Path) -> None:
    path = save(tmp_path / "bits.png", np.array([[True, False], [False, True]]), "1")
    assert pixels(path, 2).tolist() == [[[255, 0], [0, 255]]] * 3
    assert look_at(path, None).kind == "greyscale"


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    levels = np.array([[0, 255, 256], [32768, 33023, 65535], [1000, 65279, 65280]], np.uint16)
    path = save(tmp_path / "deep.png", levels)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
    assert pixels(path, 3).tolist() == [[[0, 0, 1], [128, 128, 255], [3, 254, 255]]] * 3
    assert look_at(path, None).kind == "other"


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_inks_become_colours(tmp_path: Path, format: str) -> None:
    # (255 - ink) * (255 - black) / 255: 155 * 200 / 255 = 121.6, 255 * 200 / 255, 0
    path = save(tmp_path / "inks.jpg", Image.new("CMYK", (16, 16), (100, 0, 255, 55)), format=format, quality=100)
    assert np.abs(np.array(one_pixel(path)) - [121.6, 200, 0]).max() <= (0.5 if format == "TIFF" else 2)
    assert look_at(path, None).kind == "cmyk"


@pytest.mark.parametrize(("alpha", "colour"), [(0, [255, 255, 255]), (51, [244, 224, 204]), (255, [200, 100, 0])])
def test_transparent_colours_lie_on_white(tmp_path: Path, alpha: int, colour: list[int]) -> None:
    # a fifth of 200, 100, 0 and four fifths of 255
    path = save(tmp_path / "glass.png", Image.new("RGBA", (8, 8), (200, 100, 0, alpha)))
    assert one_pixel(path) == colour
    assert look_at(path, None).kind == "rgba"


def test_transparent_grey_lies_on_white(tmp_path: Path) -> None:
    path = save(tmp_path / "glass.png", Image.new("LA", (8, 8), (100, 51)))
    assert one_pixel(path) == [224, 224, 224]
    assert look_at(path, None).kind == "greyscale"


def test_one_transparent_colour_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (9, 9, 9))
    image.putpixel((1, 1), (0, 200, 0))
    path = save(tmp_path / "key.png", image, transparency=(9, 9, 9))
    assert pixels(path, 4)[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels(path, 4)[:, 1, 1].tolist() == [0, 200, 0]


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes(tmp_path: Path, transparent: bool) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1, 1, 0])
    path = save(tmp_path / "palette.png", image, **({"transparency": 0} if transparent else {}))
    zero = [255, 255, 255] if transparent else [10, 20, 30]
    columns = pixels(path, 2).reshape(3, 4).T.tolist()
    assert columns == [zero, [200, 100, 50], [200, 100, 50], zero]
    assert look_at(path, None).kind == "other"


# ---- EXIF orientation ----


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)], ids=["wide", "high", "square"])
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, shape: tuple[int, int]) -> None:
    upright, exif = noise(*shape), Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / "turned.png", STORED[orientation](upright), exif=exif)
    size = min(shape)
    top, left = ((side - size) // 2 for side in shape)
    expected = upright[top : top + size, left : left + size]
    assert np.array_equal(pixels(path, size), expected.transpose(2, 0, 1))
    assert look_at(path, None).rotated == (orientation != 1)


def test_a_turned_jpeg_is_the_upright_one(tmp_path: Path) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 240  # bright in the upper left
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / "turned.jpg", STORED[6](upright), format="JPEG", quality=95, exif=exif)
    seen = pixels(path, 32)
    assert seen[:, 4:12, 2:10].min() > 220
    assert max(seen[:, 20:].max(), seen[:, :, 20:].max()) < 30
    assert look_at(path, None).rotated


def test_an_exif_without_orientation_turns_nothing(tmp_path: Path) -> None:
    exif, stored = Image.Exif(), noise(8, 8)
    exif[0x010F] = "a camera"
    path = save(tmp_path / "plain.png", stored, exif=exif)
    assert np.array_equal(pixels(path, 8), stored.transpose(2, 0, 1))
    assert not look_at(path, None).rotated


# ---- files that cannot be used ----


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def test_missing_empty_and_text_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    for name, problem in (("gone", "missing"), ("empty", "empty file"), ("text", "not an image")):
        seen = look_at(tmp_path / f"{name}.jpg", 8)
        assert (seen.problem, seen.truncated, seen.pixels, seen.phash) == (problem, False, b"", b"")


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_files_that_break_off(tmp_path: Path, format: str, share: float) -> None:
    path = save(tmp_path / "whole.jpg", noise(64, 64), format=format)
    assert not look_at(path, 8).problem
    seen = look_at(cut(path, share), 8)
    assert seen.problem and seen.truncated
    assert (seen.pixels, seen.phash) == (b"", b"")


def test_a_stub_is_no_image_that_breaks_off(tmp_path: Path) -> None:
    path = save(tmp_path / "stub.jpg", noise(64, 64), format="JPEG")
    path.write_bytes(path.read_bytes()[:3])
    seen = look_at(path, 8)
    assert seen.problem and not seen.truncated


def test_a_broken_chunk_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "broken.png", noise(64, 64))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert look_at(path, 8).problem


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    assert "directory" in look_at(tmp_path / "folder.jpg", 8).problem


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.png", noise(64, 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 4,096 are more than twice as many
    seen = look_at(path, 8)
    assert "decompression bomb" in seen.problem
    assert seen.pixels == b""


def test_pillow_is_left_as_it_was(tmp_path: Path) -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert look_at(cut(save(tmp_path / "cut.jpg", noise(64, 64), format="JPEG"), 0.5), 8).truncated
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_pillow_is_left_as_the_caller_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert look_at(save(tmp_path / "bomb.png", noise(64, 64)), 8).problem
    assert ImageFile.LOAD_TRUNCATED_IMAGES


# ---- digests and hashes ----


def test_the_digest_is_blake2_of_the_bytes(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png", noise(64, 64)), tmp_path / "text.png", tmp_path / "cut.png"]
    paths[1].write_text("no picture")
    paths[2].write_bytes(paths[0].read_bytes()[:-500])
    for path in paths:
        assert look_at(path, None).digest == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert look_at(tmp_path / "gone.png", None).digest == ""


def bits_apart(first: bytes, second: bytes) -> int:
    assert len(first) == len(second) == 32
    return (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()


@pytest.mark.parametrize("change", ["saved anew", "halved", "doubled"])
def test_the_hash_hardly_changes_when_a_picture_is_saved_anew(shared: Path, tmp_path: Path, change: str) -> None:
    apart = []
    for path in real_pictures(shared, 10):
        with Image.open(path) as image:
            scale = {"saved anew": 1.0, "halved": 0.5, "doubled": 2.0}[change]
            changed = image.resize((round(image.width * scale), round(image.height * scale)))
        changed.save(tmp_path / "changed.jpg", quality=50 if scale == 1 else 90)
        assert path.read_bytes() != (tmp_path / "changed.jpg").read_bytes()
        apart.append(bits_apart(look_at(path, None).phash, look_at(tmp_path / "changed.jpg", None).phash))
    assert max(apart) <= DUPLICATE_BITS
    assert np.median(apart) <= 12


def test_the_hash_is_that_of_imagehash(shared: Path) -> None:
    """Of a grey picture whose points are 2 x 2 squares, so that they are what is hashed."""
    for path in real_pictures(shared, 15):
        with Image.open(path) as image:
            points = image.convert("RGB").resize((64, 64)).getchannel("G")
        grey = Image.merge("RGB", [points.resize((128, 128), Image.Resampling.NEAREST)] * 3)
        expected = np.packbits(imagehash.phash(points, hash_size=16).hash).tobytes()
        assert perceptual_hashes(hash_points(grey)[None]) == [expected]


def test_hashes_of_many_are_those_of_each(shared: Path) -> None:
    points = []
    for path in real_pictures(shared, 5):
        with Image.open(path) as image:
            points.append(hash_points(image.convert("RGB")))
    assert perceptual_hashes(np.stack(points)) == [perceptual_hashes(each[None])[0] for each in points]


def test_the_hashes_of_different_pictures_are_far_apart(shared: Path) -> None:
    hashes = [look_at(path, None).phash for path in real_pictures(shared, 30)]
    apart = [bits_apart(one, other) for row, one in enumerate(hashes) for other in hashes[:row]]
    assert len(apart) == 60 * 59 // 2
    assert min(apart) >= 32 > DUPLICATE_BITS


def test_the_hash_does_not_know_the_size_of_the_store(shared: Path) -> None:
    for path in real_pictures(shared, 2):
        assert len({look_at(path, size).phash for size in (None, 8, 64, 160)}) == 1


def test_the_hash_is_of_the_upright_picture(tmp_path: Path) -> None:
    # smooth, because a hash of white noise has little to go by
    upright = np.asarray(Image.fromarray(noise(6, 9)).resize((90, 60), Image.Resampling.BICUBIC))
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    turned = save(tmp_path / "turned.png", STORED[8](upright), exif=exif)
    plain = save(tmp_path / "plain.png", upright)
    assert look_at(turned, None).phash == look_at(plain, None).phash


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_decoding_processes_do_not_wait_for_torch() -> None:
    assert "torch" not in modules_after("import scp_ray.data.pixels")
    assert "torch" in modules_after("import scp_ray.data.store")  # the question can be answered otherwise
