"""Reading the tables that come with a data set, and saying what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from scp_ray.data.base import SPLITS
from scp_ray.errors import DataError

SHOWN = 10  # names listed in an error


def checked_root(root: str) -> Path:
    """The data set's folder. Raises DataError where it is missing."""
    folder = Path(root)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"root: {root} {what}. Name the folder that holds images/ and the tables.")
    return folder


def read_csv(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """All columns as text, a missing cell as the empty string; read once while the file does not change.

    Raises DataError where the file is unreadable or lacks a needed column.
    """
    status = path.stat()
    table = _read(path, status.st_size, status.st_mtime_ns)
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}. It has: {', '.join(map(str, table.columns))}.")
    return table


@lru_cache(maxsize=16)
def _read(path: Path, size: int, changed_ns: int) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, OSError) as error:  # pandas' own parser errors are ValueErrors
        raise DataError(f"{path} cannot be read as a CSV table in UTF-8: {error}") from error


def codes(values: pd.Series, known: dict[str, int], *, column: str, ids: pd.Series) -> pd.Series:
    """Text to integer codes. Raises DataError naming every value that is not known, with its rows."""
    coded = values.map(known)
    unknown = coded.isna()
    if unknown.any():
        listed = ", ".join(f"{value!r} ({count} rows)" for value, count in values[unknown].value_counts().items())
        rows = ", ".join(ids[unknown].head(SHOWN))
        raise DataError(
            f"column {column} holds {listed}; allowed are {', '.join(known)}. The first rows: {rows}. "
            "Correct or drop them."
        )
    return coded.astype("int64")


def checked_splits(table: pd.DataFrame) -> pd.DataFrame:
    """The table, where every split is known and no id occurs twice. Raises DataError otherwise."""
    codes(table["split"], {name: 0 for name in SPLITS}, column="split", ids=table["id"])
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise DataError(
            f"{len(twice)} ids occur more than once: {', '.join(twice.head(SHOWN))}. Each image may have one row."
        )
    return table


def with_images(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The table with ``path`` = folder/<id>.jpg. Raises DataError naming the images that are not there."""
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist. It has to hold the {len(table)} images that the table lists.")
    present = {entry.name for entry in os.scandir(folder)}
    names = table["id"] + ".jpg"
    absent = names[~names.isin(present)]
    if len(absent):
        raise DataError(
            f"{len(absent)} of {len(table)} images that the table lists are not in {folder}: "
            f"{', '.join(absent.head(SHOWN))}. Bring them or drop their rows."
        )
    return table.assign(path=[str(folder / name) for name in names])
