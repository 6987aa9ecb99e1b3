"""Fitzpatrick-17k: clinical images of 114 conditions, with skin type as the sensitive attribute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from annotated_types import Ge

from scp_ray.data.base import DataSet, register
from scp_ray.data.tables import checked_root, checked_splits, codes, read_csv, with_images
from scp_ray.errors import DataError

ANNOTATIONS = "fitzpatrick17k.csv"
PUBLISHED = {"val": "fitzpatrick17k_vali.csv", "test": "fitzpatrick17k_test.csv"}
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
        return tuple(sorted(set(self._source()["label"])))

    def rows(self) -> pd.DataFrame:
        """The canonical table without paths: the images need not be there."""
        table = self._source()
        ids = table["md5hash"]
        known = {name: index for index, name in enumerate(self.class_names)}
        label = codes(table["label"], known, column="label", ids=ids)
        group = codes(table["fitzpatrick_scale"], GROUPS, column="fitzpatrick_scale", ids=ids)
        columns = {"id": ids, "unit": ids, "label": label, "split": table["split"], "skin_type": group}
        return checked_splits(pd.DataFrame(columns).reset_index(drop=True))

    def table(self) -> pd.DataFrame:
        """See ``DataSet.table``."""
        return with_images(self.rows(), Path(self.root) / "images")

    def _source(self) -> pd.DataFrame:
        root = checked_root(self.root)
        if (root / "metadata.csv").is_file():
            return read_csv(root / "metadata.csv", (*COLUMNS, "split"))
        wanted = (ANNOTATIONS, *PUBLISHED.values())
        if not all((root / name).is_file() for name in wanted):
            raise DataError(f"{root} holds neither metadata.csv nor all of {', '.join(wanted)}.")
        table = read_csv(root / ANNOTATIONS, COLUMNS).assign(split="train")
        for split, name in PUBLISHED.items():
            members = set(read_csv(root / name, ("md5hash",))["md5hash"])
            strangers = sorted(members - set(table["md5hash"]))
            if strangers:
                raise DataError(
                    f"{name} lists {len(strangers)} images that {ANNOTATIONS} does not: {', '.join(strangers[:10])}."
                )
            table.loc[table["md5hash"].isin(members), "split"] = split
        return table
