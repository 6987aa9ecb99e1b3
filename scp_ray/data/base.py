"""The contract of a data set, its canonical table, and the room's register."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, ClassVar

import pandas as pd
from annotated_types import Ge

from scp_ray.data.health import Health
from scp_ray.data.pixels import DECODE_VERSION
from scp_ray.parts import FairnessData
from scp_ray.registry import Registry
from scp_ray.terminal import Progress, silent


class DataSet:
    """Images with labels and sensitive attributes. A frozen dataclass whose fields are its options.

    Subclasses say what the data set is by ``table``, and give its pixels by ``load``.
    """

    plugin_name: ClassVar[str]
    image_size: Annotated[int, Ge(8)] = 128
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]  # the primary one first
    privileged_code: int | None  # None: the user did not say; methods that need it refuse

    def table(self) -> pd.DataFrame:
        """The canonical table: a row per image with ``id, unit, label, split`` and a column per attribute.

        ``label`` and attributes are integer codes; ``unit`` is the lesion, else patient, else group of duplicates,
        else image; ``split`` is train, val or test.

        Raises DataError naming the file, the column or the rows that are missing or wrong.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define table().")

    def rows(self) -> pd.DataFrame:
        """The same without a look at the images: a quick check of the tables."""
        return self.table()

    def identity(self) -> dict[str, str | int]:
        """What decides the numbers: the canonical table's SHA-256, image size and decode version; no paths."""
        return self._identity(self.table())

    def _identity(self, table: pd.DataFrame) -> dict[str, str | int]:
        return {
            "table": table_digest(table, self.attribute_names),
            "image_size": self.image_size,
            "decode": DECODE_VERSION,
        }

    def units(self) -> str:
        """Digest of what belongs together: evidence and the significance of channels follow from it. See below."""
        return units_digest(self.table())

    def check_files(self) -> None:
        """Raises DataError where the tables or the images are not to be found here; nothing is decoded."""
        self.rows()

    def sources(self) -> str:
        """SHA-256 over the contents of the image files; empty for generated data."""
        return ""

    def is_known(self) -> bool:
        """Whether ``table`` needs no look at an image: there is none, or each was looked at before."""
        return True

    def health(self, progress: Progress = silent, *, tables_only: bool = False) -> Health:
        """What is wrong with the data set and what is done about it; images are looked at unless ``tables_only``."""
        nothing = {"lesion": "", "duplicate": "", "digest": "", "kind": "", "problem": "", "dropped": ""}
        table = self.table().assign(**nothing, rotated=False, truncated=False, unknown=False)
        return Health.of(table, self.class_names, self.attribute_names[0])

    def build(self, progress: Progress = silent, *, verify: bool = False, mend: bool = False) -> Path | None:
        """Make the store of decoded images where it is missing; None for data that needs none."""
        return None

    def bytes_to_store(self) -> int:
        """What ``build`` would add to this machine's disk; 0 where nothing is missing. Nothing is decoded."""
        return 0

    def load(self) -> FairnessData:
        """The decoded data set, kept for the process (workers run many trials on one data set)."""
        raise NotImplementedError(f"{type(self).__name__} does not define load().")


def table_digest(table: pd.DataFrame, attribute_names: tuple[str, ...]) -> str:
    """SHA-256 over id, label, attributes and split of every row, in the table's order."""
    columns = ["id", "label", *attribute_names, "split"]
    digest = hashlib.sha256()
    for row in table[columns].itertuples(index=False):
        digest.update(("\x1f".join(str(value) for value in row) + "\x1e").encode())
    return digest.hexdigest()


def units_digest(table: pd.DataFrame) -> str:
    """SHA-256 over the unit of every row, in the table's order; empty where each image is a unit of its own."""
    if (table["unit"] == table["id"]).all():
        return ""
    return hashlib.sha256("\x1e".join(table["unit"]).encode()).hexdigest()


datasets: Registry[DataSet] = Registry("data set", "scp_ray.data")
register = datasets.register
