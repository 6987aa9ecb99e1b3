"""ISIC 2019: dermoscopy images of eight diagnoses, with sex or age as the sensitive attribute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from scp_ray.data.base import register
from scp_ray.data.listed import ListedImages, Share
from scp_ray.data.tables import METADATA, UNKNOWN, Faults, find_tables, read_csv, refuse_twice
from scp_ray.parts import SPLITS

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
COLUMNS = ("image", "lesion_id", "low")
PUBLISHED = {split: f"isic2019_{split}_pretraining.csv" for split in SPLITS}
# the column and its codes, those of the tables; an empty cell is unknown
ATTRIBUTES = {
    "sex": ("gender", {"0": 0, "1": 1, "": UNKNOWN}),  # 0 female, 1 male
    "age": ("age_binary", {"0.0": 0, "0": 0, "1.0": 1, "1": 1, "": UNKNOWN}),  # 0 sixty and older, 1 younger
}
PRIVILEGED = {"sex": 0, "age": 1}  # female, as the paper has it; the younger are the majority


@register("isic2019")
@dataclass(frozen=True)
class ISIC2019(ListedImages):
    """images/<image>.jpg, with metadata.csv and its column ``split``, or the three published tables.

    Group codes are those of the tables. sex: 0 female (privileged), 1 male. age: 0 sixty and older, 1 younger
    (privileged). The unit is the lesion.
    """

    val_share: Share = 0.2
    test_share: Share = 0.2
    sensitive: Literal["sex", "age"] = "sex"
    also: tuple[Literal["sex", "age"], ...] = ()  # further attributes, for scores by several

    class_names = CLASSES

    @property
    def attribute_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one that is asked for, then the others."""
        return (self.sensitive, *self.also)

    @property
    def privileged_code(self) -> int:  # type: ignore[override]
        """See ``PRIVILEGED``."""
        return PRIVILEGED[self.sensitive]

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_twice(self.attribute_names)

    def listed(self) -> pd.DataFrame:
        """See ``ListedImages.listed``."""
        table = self._read(tuple(ATTRIBUTES[name][0] for name in self.attribute_names))
        ids, faults = table["image"], Faults(self.root)
        faults.check(ids, column="image")
        if self.splits == "published":
            faults.check_splits(table["split"], ids=ids)
        label = faults.codes(table["low"], {str(code): code for code in range(len(CLASSES))}, column="low", ids=ids)
        attributes = {}
        for name in self.attribute_names:
            column, codes = ATTRIBUTES[name]
            attributes[name] = faults.codes(table[column], codes, column=column, ids=ids)
        faults.raise_if_any()
        columns = {"id": ids, "file": "images/" + ids + ".jpg", "unit": table["lesion_id"], "label": label}
        return pd.DataFrame(columns | {"split": table["split"]} | attributes)

    def _read(self, attributes: tuple[str, ...]) -> pd.DataFrame:
        paths, columns = find_tables(self.root, tuple(PUBLISHED.values())), (*COLUMNS, *attributes)
        if paths[0].name == METADATA:
            table = read_csv(paths[0], (*columns, "split") if self.splits == "published" else columns)
            return table if "split" in table else table.assign(split="")
        parts = [read_csv(path, columns).assign(split=split) for path, split in zip(paths, SPLITS, strict=True)]
        return pd.concat(parts, ignore_index=True)
