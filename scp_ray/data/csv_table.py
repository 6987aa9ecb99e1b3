"""Any folder of images with a table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import pandas as pd

from scp_ray.data.base import register
from scp_ray.data.build import inspect
from scp_ray.data.listed import ListedImages
from scp_ray.data.tables import METADATA, UNKNOWN, Faults, below, checked_root, counted, first, read_csv, refuse_twice
from scp_ray.errors import ConfigError, DataError

# what tables of ours call their columns
OWN_COLUMNS = {"id", "file", "path", "unit", "lesion", "label", "split", "image", "digest", "kind", "rotated"}
OWN_COLUMNS |= {"problem", "truncated", "duplicate", "unknown", "dropped"}


@register("csv")
@dataclass(frozen=True, kw_only=True)
class CSVTable(ListedImages):
    """The columns are named: ``file``, ``label``, ``group``, and ``split`` (train, val, test) where there is one.

    Files are relative to the folder ``images`` of the root; ``suffix`` is added to them. Group codes come from
    ``group_threshold`` (numbers from it on are 1), from ``group_values`` (these are 1, all others 0), or else from the
    column's two values in alphabetical order; an empty cell is unknown. ``unit`` names a column of lesions or
    patients. Classes are the labels of the rows that are used. Methods that treat the groups differently need
    ``privileged_code``.
    """

    file: str
    label: str
    group: str
    split: str = ""
    unit: str = ""
    table_file: str = METADATA
    images: str = "."
    suffix: str = ""  # of the files, where the column leaves it out: ".jpg"
    group_threshold: float | None = None
    group_values: tuple[str, ...] = ()
    also: tuple[str, ...] = ()  # further sensitive columns, for scores by several; codes follow their values' order
    privileged_code: Literal[0, 1] | None = None

    @property
    def attribute_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The group's column, then the others."""
        return (self.group, *self.also)

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The values of the label's column in the rows that are used, in alphabetical order."""
        status = self._path().stat()
        return _class_names(self, status.st_size, status.st_mtime_ns)

    def classes_of(self, survey: pd.DataFrame) -> tuple[str, ...]:
        """See ``ListedImages.classes_of``; its rows are the table's."""
        return tuple(sorted(set(self._read()[self.label][(survey["dropped"] == "").to_numpy()])))

    def survey(self, facts: pd.DataFrame | None) -> pd.DataFrame:
        """See ``ListedImages.survey``; codes of labels that only dropped rows have come after all others."""
        survey, names = super().survey(facts), self._read()[self.label]
        used = self.classes_of(survey)
        codes = {name: code for code, name in enumerate((*used, *sorted(set(names) - {*used})))}
        return survey.assign(label=names.map(codes).to_numpy())

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_twice(self.attribute_names)
        faults = []
        if self.splits == "published" and not self.split:
            faults.append("split: missing; name the column that says train, val or test, or use splits: seeded.")
        if self.group_threshold is not None and self.group_values:
            faults.append("group_threshold and group_values are both given; keep the one that makes the groups.")
        for name in self.attribute_names:
            if name in OWN_COLUMNS:
                faults.append(f"group: a column named {name!r} cannot be told from scp_ray's own; rename it.")
        if faults:
            raise ConfigError(faults)

    def listed(self) -> pd.DataFrame:
        """See ``ListedImages.listed``."""
        table, faults = self._read(), Faults(str(Path(self.root) / self.table_file))
        ids = table[self.file]
        faults.check(ids, column=self.file)
        faults.no_blank(table[self.label], column=self.label, ids=ids)
        if self.split and self.splits == "published":
            faults.check_splits(table[self.split], column=self.split, ids=ids)
        group = self._codes(table[self.group], ids, faults)
        others = {name: self._codes_by_value(table[name], faults) for name in self.also}
        faults.raise_if_any()
        label = table[self.label].map({name: code for code, name in enumerate(sorted(set(table[self.label])))})
        folder = "" if self.images in ("", ".") else self.images.rstrip("/") + "/"
        unit, split = (table.get(column, "") for column in (self.unit, self.split))
        columns = {"id": ids, "file": folder + ids + self.suffix, "unit": unit, "label": label}
        return pd.DataFrame(columns | {"split": split, self.group: group} | others)

    def _codes(self, values: pd.Series[str], ids: pd.Series[str], faults: Faults) -> pd.Series:
        known = values != ""
        if self.group_threshold is not None:
            numbers = pd.to_numeric(values, errors="coerce")
            wrong = ids[known & numbers.isna()]
            if len(wrong):
                faults.add(
                    f"column {self.group} is no number in {counted(wrong, 'row')} ({first(wrong)}), but "
                    f"group_threshold is {self.group_threshold:g}. Correct them, or use group_values."
                )
            ones = numbers >= self.group_threshold
        elif self.group_values:
            ones = values.isin(self.group_values)
        else:
            names = sorted(set(values[known]))
            if len(names) != 2:
                faults.add(
                    f"column {self.group} has {len(names)} values ({_some(values[known])}); two make two groups. Say "
                    "which are group 1 (group_values: [...]), or from which number on (group_threshold: ...)."
                )
            ones = values == names[-1] if names else known
        by_rule = self.group_threshold is not None or bool(self.group_values)
        if by_rule and ones[known].nunique() == 1:
            faults.add(
                f"column {self.group} gives one group only; its values are {_some(values[known])}. "
                "Correct group_values or group_threshold."
            )
        return ones.astype("int64").where(known, UNKNOWN)

    def _codes_by_value(self, values: pd.Series[str], faults: Faults) -> pd.Series:
        names = sorted(set(values[values != ""]))
        if len(names) < 2:
            faults.add(f"column {values.name} has {len(names)} values; groups need at least two. Leave it out of also.")
        return values.map({"": UNKNOWN} | {name: code for code, name in enumerate(names)}).astype("int64")

    def identity(self) -> dict[str, str | int]:
        """Methods that treat the groups differently make other numbers of another privileged group."""
        given = {} if self.privileged_code is None else {"privileged_code": int(self.privileged_code)}
        return super().identity() | given

    def _path(self) -> Path:
        root = checked_root(self.root)
        path = below(root, root / self.table_file)
        if not path.is_file():
            raise DataError(f"{path} is not there. Name the table by table_file, relative to {self.root}.")
        return path

    def _read(self) -> pd.DataFrame:
        optional = {name for name in (self.unit, self.split if self.splits == "published" else "") if name}
        return read_csv(self._path(), (self.file, self.label, *self.attribute_names, *sorted(optional)))


@lru_cache(maxsize=16)
def _class_names(data_set: CSVTable, size: int, changed_ns: int) -> tuple[str, ...]:
    """Every row that is recorded asks; known while the table does not change."""
    return data_set.classes_of(data_set.survey(inspect(data_set._source())))


def _some(values: pd.Series[str]) -> str:
    names = sorted(set(values))
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
