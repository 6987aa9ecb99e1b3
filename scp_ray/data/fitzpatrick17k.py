"""Fitzpatrick-17k: clinical images of 114 conditions, with skin type as the sensitive attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from scp_ray.data.base import register
from scp_ray.data.listed import ListedImages
from scp_ray.data.tables import METADATA, UNKNOWN, Faults, counted, find_tables, first, read_csv

ANNOTATIONS = "fitzpatrick17k.csv"
PUBLISHED = {"val": "fitzpatrick17k_vali.csv", "test": "fitzpatrick17k_test.csv"}
COLUMNS = ("md5hash", "fitzpatrick_scale")
LEVELS = {"low": "label", "mid": "nine_partition_label", "high": "three_partition_label"}  # 114, 9, 3 classes
GROUPS = {"1": 0, "2": 0, "3": 0, "4": 1, "5": 1, "6": 1, "-1": UNKNOWN}  # light, dark


@register("fitzpatrick17k")
@dataclass(frozen=True)
class Fitzpatrick17k(ListedImages):
    """images/<md5hash>.jpg, with metadata.csv and its column ``split``, or the published tables.

    The published split has a table for val and one for test; train is what they leave of the annotations. Group
    codes: 0 light (types 1-3), 1 dark (types 4-6, privileged); ``unknown_group: as_1`` counts unknown types as dark,
    as the released loader does. Classes are the labels of ``label_level`` in alphabetical order.
    """

    unknown_group: Literal["as_1", "drop"] = "as_1"
    label_level: Literal["low", "mid", "high"] = "low"

    attribute_names = ("skin_type",)
    privileged_code = 1

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The labels that occur, in alphabetical order: 114, 9 or 3 in the published annotations."""
        column = LEVELS[self.label_level]
        return _class_names(read_csv(self._tables()[0], (*COLUMNS, column))[column])

    def identity(self) -> dict[str, str | int]:
        """Where the last class has no row that is used, the table's digest does not say how many there are."""
        table, classes = self.table(), len(self.class_names)
        return self._identity(table) | ({} if classes == table["label"].max() + 1 else {"classes": classes})

    def listed(self) -> pd.DataFrame:
        """See ``ListedImages.listed``."""
        column, faults = LEVELS[self.label_level], Faults(self.root)
        table = self._read((*COLUMNS, column), faults)
        ids = table["md5hash"]
        faults.check(ids, column="md5hash")
        if self.splits == "published":
            faults.check_splits(table["split"], ids=ids)
        faults.no_blank(table[column], column=column, ids=ids)
        group = faults.codes(table["fitzpatrick_scale"], GROUPS, column="fitzpatrick_scale", ids=ids)
        faults.raise_if_any()
        label = table[column].map({name: code for code, name in enumerate(_class_names(table[column]))})
        columns = {"id": ids, "file": "images/" + ids + ".jpg", "unit": "", "label": label}
        return pd.DataFrame(columns | {"split": table["split"], "skin_type": group})

    def _tables(self) -> list[Path]:
        held_out = PUBLISHED.values() if self.splits == "published" else ()
        return find_tables(self.root, (ANNOTATIONS, *held_out))

    def _read(self, columns: Sequence[str], faults: Faults) -> pd.DataFrame:
        path, *held_out = self._tables()
        if path.name == METADATA:
            table = read_csv(path, (*columns, "split") if self.splits == "published" else columns)
            return table if "split" in table else table.assign(split="")
        table = read_csv(path, columns).assign(split="train")
        members = {
            split: read_csv(path, ("md5hash",))["md5hash"] for split, path in zip(PUBLISHED, held_out, strict=False)
        }
        for split, ids in members.items():
            strangers = ids[~ids.isin(table["md5hash"])]
            if len(strangers):
                faults.add(
                    f"{PUBLISHED[split]} lists {counted(strangers, 'image')} that {ANNOTATIONS} does not "
                    f"({first(strangers)}). Use tables of one release."
                )
            table.loc[table["md5hash"].isin(ids), "split"] = split
        shared = members["val"][members["val"].isin(members["test"])] if members else ()
        if len(shared):
            faults.add(
                f"{' and '.join(PUBLISHED.values())} share {counted(shared, 'image')} ({first(shared)}). "
                "Drop them from one of the two."
            )
        return table


def _class_names(labels: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(set(labels)))
