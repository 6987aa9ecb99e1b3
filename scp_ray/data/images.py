"""Files to uint8 tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from scp_ray.errors import DataError

# Part of a trial's identity: raise it when the same file would decode to other pixels.
DECODE_VERSION = 1

# what Pillow raises for a file that is no image, is cut short, has broken chunks or would not fit into memory
_UNREADABLE = (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(paths: Sequence[str | Path], size: int) -> Tensor:
    """(N, 3, size, size) uint8: shorter side resized (bilinear, antialiased), centre cropped, as RGB.

    Raises DataError naming every file that cannot be read.
    """
    images = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    unreadable = []
    for index, path in enumerate(paths):
        try:
            with Image.open(path) as file:
                images[index] = np.asarray(_square(file.convert("RGB"), size))
        except _UNREADABLE as error:
            unreadable.append(f"{path} ({error})")
    if unreadable:
        shown = "\n  ".join(unreadable[:20])
        raise DataError(
            f"{len(unreadable)} of {len(paths)} images cannot be read:\n  {shown}\nReplace them or drop their rows."
        )
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _square(image: Image.Image, size: int) -> Image.Image:
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
