"""Fitzpatrick-17k: clinical images of 114 conditions, with skin type as the sensitive attribute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from annotated_types import Ge

from scp_ray.data.base import DataSet, register
from scp_ray.data.tables import METADATA, Faults, counted, find_tables, first, read_csv, with_images

ANNOTATIONS = "fitzpatrick17k.csv"
PUBLISHED = {"val": "fitzpatrick17k_vali.csv", "test": "fitzpatrick17k_test.csv"}
TABLES = (ANNOTATIONS, *PUBLISHED.values())
COLUMNS = ("md5hash", "fitzpatrick_scale", "label")
# light is 0; dark and unknown are 1, as the released loader codes them
GROUPS = {"1": 0, "2": 0, "3": 0, "4": 1, "5": 1, "6": 1, "-1": 1}


@register("fitzpatrick17k")
@dataclass(frozen=True)
class Fitzpatrick17k(DataSet):
    """images/<md5hash>.jpg, with metadata.csv and its column ``split``, or the published tables.

    The published split has a table for val and one for test; train is what they leave of the annotations. Group
    codes: 0 light (types 1-3), 1 dark (types 4-6, privileged) and unknown. Classes are the labels in alphabetical
    order.
    """

    root: str
    image_size: Annotated[int, Ge(8)] = 128

    attribute_names = ("skin_type",)
    privileged_code = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", str(Path(self.root).absolute()))  # workers may start elsewhere

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The labels that occur, in alphabetical order: 114 in the published annotations."""
        return _class_names(read_csv(find_tables(self.root, TABLES)[0], COLUMNS))

    def rows(self) -> pd.DataFrame:
        """The canonical table without paths: the images need not be there."""
        faults = Faults(self.root)
        table = self._source(faults)
        ids = table["md5hash"]
        faults.check(ids, table["split"], column="md5hash")
        faults.no_blank(table["label"], column="label", ids=ids)
        group = faults.codes(table["fitzpatrick_scale"], GROUPS, column="fitzpatrick_scale", ids=ids)
        faults.raise_if_any()
        label = table["label"].map({name: index for index, name in enumerate(_class_names(table))})
        columns = {"id": ids, "unit": ids, "label": label, "split": table["split"], "skin_type": group}
        return pd.DataFrame(columns)

    def table(self) -> pd.DataFrame:
        """See ``DataSet.table``."""
        return with_images(self.rows(), Path(self.root) / "images")

    def _source(self, faults: Faults) -> pd.DataFrame:
        paths = find_tables(self.root, TABLES)
        if paths[0].name == METADATA:
            return read_csv(paths[0], (*COLUMNS, "split"))
        table = read_csv(paths[0], COLUMNS).assign(split="train")
        members = {
            split: read_csv(path, ("md5hash",))["md5hash"] for split, path in zip(PUBLISHED, paths[1:], strict=True)
        }
        for split, ids in members.items():
            strangers = ids[~ids.isin(table["md5hash"])]
            if len(strangers):
                faults.add(
                    f"{PUBLISHED[split]} lists {counted(strangers, 'image')} that {ANNOTATIONS} does not "
                    f"({first(strangers)}). Use tables of one release."
                )
            table.loc[table["md5hash"].isin(ids), "split"] = split
        shared = members["val"][members["val"].isin(members["test"])]
        if len(shared):
            faults.add(
                f"{' and '.join(PUBLISHED.values())} share {counted(shared, 'image')} ({first(shared)}). "
                "Drop them from one of the two."
            )
        return table


def _class_names(table: pd.DataFrame) -> tuple[str, ...]:
    return tuple(sorted(set(table["label"])))
