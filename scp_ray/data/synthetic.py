"""Generated pictures, biased on purpose: a data set that needs no download, for first steps, tests and demonstrations.

The lesion's shape carries the class; the colour of skin and lesion carries the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray

from scp_ray.data.base import DataSet, register
from scp_ray.parts import SPLITS, FairnessData, Split
from scp_ray.seeds import derive_seed

Floats = NDArray[np.float32]

# Part of a trial's identity: raise it when the same row would be drawn with other pixels.
DRAWING_VERSION = 1

SHAPES = ("disc", "ring", "stripes", "cross", "square", "triangle")
CLASS_WEIGHTS = (4.0, 3.0, 2.0, 1.5, 1.2, 1.0)  # classes are unbalanced
DARK_SHARE = 0.35  # and so are groups
# How the pictures look. Chosen so that `tiny` learns them in 3 epochs, but not wholly, and so that its gap between
# the groups comes from `bias`: at 0 it has next to none.
SKIN = np.array([[0.79, 0.65, 0.57], [0.59, 0.45, 0.37]], np.float32)  # light, dark
TINT = np.array([[-0.35, -0.70, -0.62], [-0.66, -0.60, -0.45]], np.float32)  # of equal length: equally visible
CONTRAST = (0.60, 0.75)  # of lesion to skin, drawn evenly
LOST_CONTRAST = 0.3  # the part of it that dark skin loses at bias 1
FAINT = 0.1  # share of lesions that are hard to see
MORE_FAINT = 0.9  # what bias 1 adds to it on dark skin
FAINTNESS = 0.2  # the most that is left of a faint lesion's contrast
TIED = 0.8  # how firmly bias 1 ties class to tone in train
EXTENT = (0.50, 0.55)  # root of a lesion's area, in picture sides
TURN = 0.35  # of a lesion, in radians to either side together
JITTER = 0.06  # of the skin's colour
SHADE = 0.1  # of the light across the picture
GRAIN = 0.08  # standard deviation of the noise
REACH = 0.88  # of the farthest point of any shape from its centre, for area 1
CHUNK = 32  # pictures drawn at once: small enough for the processor's cache


@register("synthetic")
@dataclass(frozen=True)
class Synthetic(DataSet):
    """Lesions of 2 to 6 shapes on light and dark skin; rows are ``train``, ``val`` and ``test``.

    ``bias`` does two things. In train it ties class to tone: classes of even index lose, those of odd index gain dark
    skin. In every split it takes contrast from lesions on dark skin. At 0 class and tone are independent and lesions
    equally visible; in val and test class and tone are always independent.
    """

    image_size: Annotated[int, Ge(8)] = 96
    num_classes: Annotated[int, Ge(2), Le(6)] = 4
    train: Annotated[int, Ge(16)] = 800
    val: Annotated[int, Ge(16)] = 400
    test: Annotated[int, Ge(16)] = 400
    bias: Annotated[float, Ge(0), Le(1)] = 0.6
    seed: int = 0  # of the data: every trial seed sees the same pictures

    attribute_names = ("tone",)  # 0 light, 1 dark
    privileged_code = 0

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The shapes."""
        return SHAPES[: self.num_classes]

    def table(self) -> pd.DataFrame:
        """``id, unit, label, split, tone``; nothing is drawn. Counts of the cells are exact, their order is random."""
        return pd.concat([self._rows(split, getattr(self, split)) for split in SPLITS], ignore_index=True)

    def _rows(self, split: str, count: int) -> pd.DataFrame:
        cells = _apportion(count, self._cell_shares(self.bias if split == "train" else 0.0))
        order = np.random.default_rng(derive_seed(self.seed, "synthetic", split)).permutation(count)
        label, tone = (np.repeat(code, cells.ravel())[order] for code in np.indices(cells.shape).reshape(2, -1))
        names = [f"{split}-{row:05d}" for row in range(count)]
        return pd.DataFrame({"id": names, "unit": names, "label": label, "split": split, "tone": tone})

    def _cell_shares(self, tie: float) -> NDArray[np.float64]:
        """(K, 2) summing to 1: the share of each class and tone."""
        weights = np.array(CLASS_WEIGHTS[: self.num_classes])
        tied = np.arange(self.num_classes) % 2
        dark = (1 - tie) * DARK_SHARE + tie * TIED * tied + tie * (1 - TIED) * DARK_SHARE
        shares: NDArray[np.float64] = (weights / weights.sum())[:, None] * np.stack([1 - dark, dark], 1)
        return shares

    def images(self, table: pd.DataFrame) -> torch.Tensor:
        """(N, 3, S, S) uint8, drawn; a row's picture depends on its id, label and tone and on no other row."""
        pictures = np.empty((len(table), 3, self.image_size, self.image_size), np.uint8)
        names, labels, tones = list(table["id"]), table["label"].to_numpy(), table["tone"].to_numpy()
        for start in range(0, len(table), CHUNK):
            part = slice(start, start + CHUNK)
            pictures[part] = self._draw(names[part], labels[part], tones[part])
        return torch.from_numpy(pictures)

    def _draw(self, names: list[str], label: NDArray[np.int64], tone: NDArray[np.int64]) -> NDArray[np.uint8]:
        size = self.image_size
        streams = [np.random.default_rng(derive_seed(self.seed, "synthetic", "picture", name)) for name in names]
        chance = np.stack([stream.random(12, dtype=np.float32) for stream in streams]).T[:, :, None, None]
        grain = np.stack([stream.standard_normal((size, size), dtype=np.float32) for stream in streams])
        across, down = (axis[None] for axis in np.meshgrid(*[(np.arange(size, dtype=np.float32) + 0.5) / size] * 2))

        extent = EXTENT[0] + (EXTENT[1] - EXTENT[0]) * chance[0]
        turn = TURN * (chance[1] - 0.5)
        room = 1 - 2 * REACH * extent  # for the centre: the whole lesion is in the picture
        right, below = across - 0.5 - room * (chance[2] - 0.5), down - 0.5 - room * (chance[3] - 0.5)
        u = (np.cos(turn) * right + np.sin(turn) * below) / extent
        v = (np.cos(turn) * below - np.sin(turn) * right) / extent
        outside = np.empty_like(u)
        for code in np.unique(label):
            chosen = label == code
            outside[chosen] = _distance(SHAPES[code], u[chosen], v[chosen])
        mask = np.clip(0.5 - outside * extent * size, 0, 1)  # edges one pixel wide

        contrast = CONTRAST[0] + (CONTRAST[1] - CONTRAST[0]) * chance[4, :, 0, 0]
        contrast = contrast * (1 - LOST_CONTRAST * self.bias * tone).astype(np.float32)
        faint = chance[10, :, 0, 0] < FAINT + MORE_FAINT * self.bias * tone
        contrast = np.where(faint, FAINTNESS * chance[11, :, 0, 0] * contrast, contrast).astype(np.float32)
        shade = SHADE * ((chance[5] - 0.5) * (across - 0.5) + (chance[6] - 0.5) * (down - 0.5)) + GRAIN * grain
        skin = SKIN[tone] + JITTER * (chance[7:10, :, 0, 0].T - 0.5)
        lesion = contrast[:, None] * TINT[tone]
        picture = skin[:, :, None, None] + lesion[:, :, None, None] * mask[:, None] + shade[:, None]
        pixels: NDArray[np.uint8] = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
        return pixels

    def identity(self) -> dict[str, str | int]:
        """The table's and what else decides the pixels; nothing is decoded, whatever the version says."""
        drawing: dict[str, str | int] = {"seed": self.seed, "bias": repr(float(self.bias)), "drawing": DRAWING_VERSION}
        return super().identity() | {"decode": 1} | drawing

    def load(self) -> FairnessData:
        """Drawn once a process."""
        return _load(self)


@lru_cache(maxsize=2)
def _load(data_set: Synthetic) -> FairnessData:
    table = data_set.table()
    splits = {}
    for name in SPLITS:
        rows = table[table["split"] == name]
        splits[name] = Split(
            image=data_set.images(rows),
            label=torch.tensor(rows["label"].to_numpy(copy=True)),
            attributes=torch.tensor(rows[["tone"]].to_numpy(copy=True)),
            id=tuple(rows["id"]),
            unit=tuple(rows["unit"]),
        )
    return FairnessData(
        data_set.plugin_name, data_set.class_names, data_set.attribute_names, data_set.privileged_code, splits
    )


def _apportion(count: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers in proportion to ``shares`` that sum to ``count``, by largest remainders."""
    exact = shares * count
    cells = np.floor(exact).astype(np.int64)
    largest = np.argsort((cells - exact).ravel(), kind="stable")[: count - cells.sum()]
    cells.ravel()[largest] += 1
    return cells


def _distance(shape: str, u: Floats, v: Floats) -> Floats:
    """Signed distance (negative inside) from the outline of a shape of area 1, so that no class is darker."""
    a, b = np.abs(u), np.abs(v)
    if shape == "disc":
        outline = np.hypot(u, v) - 0.564
    elif shape == "ring":
        outline = np.abs(np.hypot(u, v) - 0.488) - 0.163
    elif shape == "square":
        outline = np.maximum(a, b) - 0.5
    elif shape == "cross":
        outline = np.maximum(np.minimum(a, b) - 0.23, np.maximum(a, b) - 0.658)
    elif shape == "triangle":
        outline = np.maximum(0.866 * a + 0.5 * v, -v) - 0.4387
    else:  # three bars
        outline = np.maximum(np.minimum(b, np.abs(b - 0.45)) - 0.13, a - 0.641)
    return outline.astype(np.float32)
