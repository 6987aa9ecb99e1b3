"""ISIC 2019: dermoscopy images of eight diagnoses, with sex as the sensitive attribute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from annotated_types import Ge

from scp_ray.data.base import SPLITS, DataSet, register
from scp_ray.data.tables import METADATA, Faults, find_tables, read_csv, with_images

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
COLUMNS = ("image", "lesion_id", "low", "gender")
PUBLISHED = {split: f"isic2019_{split}_pretraining.csv" for split in SPLITS}


@register("isic2019")
@dataclass(frozen=True)
class ISIC2019(DataSet):
    """images/<image>.jpg, with metadata.csv and its column ``split``, or the three published tables.

    Group codes are those of the tables: 0 female (privileged), 1 male.
    """

    root: str
    image_size: Annotated[int, Ge(8)] = 128

    class_names = CLASSES
    attribute_names = ("sex",)
    privileged_code = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", str(Path(self.root).absolute()))  # workers may start elsewhere

    def rows(self) -> pd.DataFrame:
        """The canonical table without paths: the images need not be there."""
        table = self._source()
        ids = table["image"]
        faults = Faults(self.root)
        faults.check(ids, table["split"], column="image")
        label = faults.codes(table["low"], {str(i): i for i in range(8)}, column="low", ids=ids)
        sex = faults.codes(table["gender"], {"0": 0, "1": 1}, column="gender", ids=ids)
        faults.raise_if_any()
        unit = table["lesion_id"].where(table["lesion_id"] != "", ids)
        columns = {"id": ids, "unit": unit, "label": label, "split": table["split"], "sex": sex}
        return pd.DataFrame(columns)

    def table(self) -> pd.DataFrame:
        """See ``DataSet.table``."""
        return with_images(self.rows(), Path(self.root) / "images")

    def _source(self) -> pd.DataFrame:
        paths = find_tables(self.root, tuple(PUBLISHED.values()))
        if paths[0].name == METADATA:
            return read_csv(paths[0], (*COLUMNS, "split"))
        parts = [read_csv(path, COLUMNS).assign(split=split) for path, split in zip(paths, SPLITS, strict=True)]
        return pd.concat(parts, ignore_index=True)
