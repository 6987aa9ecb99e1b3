"""One image file: its pixels, and what it took to get them.

Torch is not imported here, so that decoding processes start at once.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from scp_ray.allocator import keep_freed_memory

# Part of a trial's identity: raise it when the same file would decode to other pixels.
DECODE_VERSION = 2

# Two pictures are duplicates where their perceptual hashes (256 bits) differ in at most this many. Of 2,800 copies of
# real pictures (JPEG quality 50, 0.5 to 2.8 times the size, brighter, paler) all but four stay within it; the nearest
# two different pictures among 1,200 dermoscopic ones are 26 apart, of one lesion, and 54 among 354 clinical ones.
DUPLICATE_BITS = 24
# A file of a few bytes can claim more pixels than any memory holds: this is 512 MB of RGB, where Pillow refuses by
# default. Asked here as well, since a program may have told Pillow to refuse nothing.
MOST_PIXELS = 178_956_970

_HASH_SIDE = 16
HASH_BYTES = _HASH_SIDE**2 // 8
_HASH_FROM = 4 * _HASH_SIDE  # points a side that the hash is made of

# what Pillow raises for a file that is no image, is cut short, has broken chunks or would not fit into memory
_UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)
_ORIENTATION = 0x0112
_KINDS = {"RGB": "", "L": "greyscale", "1": "greyscale", "LA": "greyscale", "CMYK": "cmyk", "RGBA": "rgba"}


@dataclass(frozen=True)
class Look:
    """What one file turned out to be."""

    digest: str  # BLAKE2 of the file's bytes
    kind: str  # what had to be converted: greyscale, cmyk, rgba, other; empty for plain RGB
    rotated: bool  # by its EXIF orientation, which was applied
    problem: str  # why it cannot be used; empty where it can
    truncated: bool  # it begins as an image and breaks off
    phash: bytes  # 256 bits
    pixels: bytes  # (3, S, S) uint8; empty where none were asked for
    checksum: int  # CRC-32 of the pixels


def look_at(path: Path, size: int | None) -> Look:
    """Read one file; with ``size`` also its pixels. Never raises for what the file holds."""
    return _hashed([_see(path, size)])[0]


def look_at_all(
    paths: Sequence[Path], size: int | None, into: Path, first_byte: int, own_process: bool = False
) -> list[Look]:
    """A chunk of work: looks without their pixels, which are written to a file instead.

    Args:
        paths: of the images.
        size: of the pixels; None where none are asked for.
        into: the file, which exists.
        first_byte: where in it the pixels begin; an image without them leaves its place empty.
        own_process: whether nothing else is done where this is done.

    Raises OSError where the disk refuses.
    """
    if own_process:
        keep_freed_memory()  # giving a picture back and getting the next anew halved the speed
    if size is None:
        return _hashed([_see(path, None) for path in paths])
    seen, nothing = [], bytes(3 * size * size)
    with into.open("r+b", buffering=0) as file:
        file.seek(first_byte)
        for path in paths:
            look, points = _see(path, size)
            file.write(look.pixels or nothing)
            seen.append((replace(look, pixels=b""), points))
    return _hashed(seen)


def _see(path: Path, size: int | None) -> tuple[Look, NDArray[np.uint8] | None]:
    """A look that has no hash yet, and what its hash is made of."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return _useless("", "missing")
    except OSError as error:
        return _useless("", str(error))
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    try:
        with _parts_shown(False), _opened(content) as file:
            if file.width * file.height > MOST_PIXELS:
                return _useless(digest, f"{file.width:,} x {file.height:,} pixels: a decompression bomb")
            kind, rotated = _KINDS.get(file.mode, "other"), file.getexif().get(_ORIENTATION) in range(2, 9)
            image = _upright_rgb(file, rotated)
    except UnidentifiedImageError:
        return _useless(digest, "not an image" if content else "empty file")
    except _UNREADABLE as error:
        return _useless(digest, str(error) or type(error).__name__, _breaks_off(content))
    pixels = b"" if size is None else np.asarray(square(image, size)).transpose(2, 0, 1).tobytes()
    return Look(digest, kind, rotated, "", False, b"", pixels, zlib.crc32(pixels)), hash_points(image)


def square(image: Image.Image, size: int) -> Image.Image:
    """Shorter side resized to ``size`` (bilinear, antialiased), centre cropped: torchvision's Resize and CenterCrop.

    Within one level of theirs. What the crop would cut off is not computed, but for what the filter reaches.
    """
    shorter = min(image.size)
    width, height = (size * side // shorter for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    across, down = image.width / width, image.height / height  # of the picture, per pixel of the result
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def hash_points(image: Image.Image) -> NDArray[np.uint8]:
    """(64, 64): what of a picture its hash is made of, the same for any store's image size.

    Of the green channel, as good as luminance and there already, and of twice the points that the hash can tell apart.
    """
    points = image.resize((2 * _HASH_FROM, 2 * _HASH_FROM), Image.Resampling.NEAREST).getchannel("G").reduce(2)
    return np.asarray(points)


def perceptual_hashes(points: NDArray[np.uint8]) -> list[bytes]:
    """256 bits that hardly change when a picture is saved anew or resized: its slow waves against their median.

    Bit for bit ``imagehash.phash(picture, hash_size=16)``, for many at once: one at a time took a twelfth of a build.

    Args:
        points: (N, 64, 64) as ``hash_points`` gives them.
    """
    down = scipy.fft.dct(points, axis=1)[:, :_HASH_SIDE]
    waves = scipy.fft.dct(down, axis=2)[:, :, :_HASH_SIDE].reshape(len(points), _HASH_SIDE**2)
    return [row.tobytes() for row in np.packbits(waves > np.median(waves, axis=1, keepdims=True), axis=1)]


def _hashed(seen: Sequence[tuple[Look, NDArray[np.uint8] | None]]) -> list[Look]:
    points = [points for _, points in seen if points is not None]
    hashes = iter(perceptual_hashes(np.stack(points)) if points else ())
    return [look if points is None else replace(look, phash=next(hashes)) for look, points in seen]


def _upright_rgb(file: Image.Image, rotated: bool) -> Image.Image:
    """As a viewer shows it: turned by its EXIF orientation, transparent parts white."""
    image = ImageOps.exif_transpose(file) if rotated else file
    if image.mode.startswith("I"):  # 16 bits a sample: Pillow would clip instead of scale
        levels = np.asarray(image).astype(np.int64)
        image = Image.fromarray((levels >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Pillow warns of pictures half as large as those it refuses; they are decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content)) as file:
            yield file


def _breaks_off(content: bytes) -> bool:
    """Whether Pillow can show a part of what it cannot show in whole."""
    try:
        with _parts_shown(True), _opened(content) as file:
            file.load()
    except _UNREADABLE:
        return False
    return True


@contextmanager
def _parts_shown(allowed: bool) -> Iterator[None]:
    """Whether Pillow shows files that break off, whatever the caller has set."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = allowed
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _useless(digest: str, problem: str, truncated: bool = False) -> tuple[Look, None]:
    return Look(digest, "", False, problem, truncated, b"", b"", 0), None
