"""The contract of a data set, its canonical table, and the room's register."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, ClassVar

import pandas as pd
import torch
from annotated_types import Ge

from scp_ray.data.images import DECODE_VERSION, decode
from scp_ray.errors import DataError
from scp_ray.parts import FairnessData, Split
from scp_ray.registry import Registry

SPLITS = ("train", "val", "test")


class DataSet:
    """Images with labels and sensitive attributes. A frozen dataclass whose fields are its options.

    Subclasses say what the data set is by ``table``; images are decoded by ``load``.
    """

    plugin_name: ClassVar[str]
    image_size: Annotated[int, Ge(8)] = 128
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]  # the primary one first
    privileged_code: ClassVar[int]

    def table(self) -> pd.DataFrame:
        """The canonical table: a row per image with ``id, unit, label, split, path`` and a column per attribute.

        ``label`` and attributes are integer codes; ``unit`` is the lesion, else patient, else image; ``split`` is
        train, val or test; ``path`` is the image's file (absent for generated data).

        Raises DataError naming the file, the column or the rows that are missing or wrong.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define table().")

    def images(self, table: pd.DataFrame) -> torch.Tensor:
        """(N, 3, S, S) uint8 of the table's rows, in its order."""
        return decode(list(table["path"]), self.image_size)

    def identity(self) -> dict[str, str | int]:
        """What decides the numbers: the canonical table's SHA-256, image size and decode version; no paths."""
        return {
            "table": table_digest(self.table(), self.attribute_names),
            "image_size": self.image_size,
            "decode": DECODE_VERSION,
        }

    def load(self) -> FairnessData:
        """The decoded data set, kept for the process (workers run many trials on one data set)."""
        return _load(self)


@lru_cache(maxsize=2)
def _load(data_set: DataSet) -> FairnessData:
    table = data_set.table()
    splits = {}
    for name in SPLITS:
        rows = table[table["split"] == name]
        if rows.empty:
            raise DataError(f"{data_set.plugin_name} has no {name} rows; its splits: {sorted(set(table['split']))}.")
        splits[name] = Split(
            image=data_set.images(rows),
            label=torch.tensor(rows["label"].to_numpy(copy=True)),
            attributes=torch.tensor(rows[list(data_set.attribute_names)].to_numpy(copy=True)),
            id=tuple(rows["id"]),
            unit=tuple(rows["unit"]),
        )
    return FairnessData(
        name=data_set.plugin_name,
        class_names=data_set.class_names,
        attribute_names=data_set.attribute_names,
        privileged_code=data_set.privileged_code,
        splits=splits,
    )


def table_digest(table: pd.DataFrame, attribute_names: tuple[str, ...]) -> str:
    """SHA-256 over id, label, attributes and split of every row, in the table's order."""
    columns = ["id", "label", *attribute_names, "split"]
    digest = hashlib.sha256()
    for row in table[columns].itertuples(index=False):
        digest.update(("\x1f".join(str(value) for value in row) + "\x1e").encode())
    return digest.hexdigest()


datasets: Registry[DataSet] = Registry("data set", "scp_ray.data")
register = datasets.register
