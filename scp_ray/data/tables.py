"""Reading the tables that come with a data set, and saying what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from scp_ray.errors import ConfigError, DataError
from scp_ray.parts import SPLITS

METADATA = "metadata.csv"
SHOWN = 10  # names listed in an error
UNKNOWN = -1  # the code of a group that the table does not say


def checked_root(root: str) -> Path:
    """The data set's folder. Raises DataError where it is missing."""
    folder = Path(root)
    if not os.path.isdir(folder):  # pathlib raises for a name that is too long
        what = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise DataError(f"root: {root} {what}. Name the folder that holds images/ and the tables.")
    return folder


def find_tables(root: str, published: Sequence[str]) -> list[Path]:
    """metadata.csv alone where the root has it, else the published tables.

    Raises DataError where the root is missing, or neither is complete.
    """
    folder = checked_root(root)
    if (folder / METADATA).is_file():
        return [below(folder, folder / METADATA)]
    missing = [name for name in published if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} holds neither {METADATA} nor all of {', '.join(published)}: it lacks {', '.join(missing)}. "
            f"Put these there, or a {METADATA} with the same columns and split."
        )
    return [below(folder, folder / name) for name in published]


def below(root: Path, path: Path) -> Path:
    """``path``, which neither ".." nor a link may lead out of ``root``. Raises DataError."""
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(root)):
        raise DataError(
            f"{path} leads out of {root}, to {real}. Tables and images have to lie below the root: bring them there, "
            "or name as root the folder that holds them all."
        )
    return path


def read_csv(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """All columns as text, a missing cell as the empty string; read once while the file does not change.

    Raises DataError where the file is unreadable or lacks a needed column.
    """
    status = path.stat()
    table = _read(path, status.st_size, status.st_mtime_ns)
    missing = [column for column in needed if column not in table.columns]
    if missing:
        present = ", ".join(map(str, table.columns))
        raise DataError(f"{path} lacks the columns {', '.join(missing)}. It has: {present}. Rename or add them.")
    return table


@lru_cache(maxsize=16)
def _read(path: Path, size: int, changed_ns: int) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, OSError) as error:  # pandas' own parser errors are ValueErrors
        raise DataError(f"{path} cannot be read as a CSV table in UTF-8: {error}. Replace it.") from error


class Faults:
    """Everything that is wrong with a data set's rows, so that it is said at once."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._found: list[str] = []

    def add(self, fault: str) -> None:
        """One full sentence or more."""
        self._found.append(fault)

    def raise_if_any(self) -> None:
        """Raise DataError with all of them."""
        if self._found:
            raise DataError("\n  ".join([f"{self._where}:", *self._found]))

    def codes(self, values: pd.Series[str], known: Mapping[str, int], *, column: str, ids: pd.Series[str]) -> pd.Series:
        """Text to integer codes (N,). Every value that is not known is a fault; its code is UNKNOWN."""
        coded = values.map(dict(known))
        wrong = list(ids[coded.isna()].groupby(values))
        for value, rows in wrong[:SHOWN]:
            allowed = ", ".join(name or "an empty cell" for name in known)
            self.add(
                f"column {column} is {value!r} in {counted(rows, 'row')} ({first(rows)}). "
                f"Allowed are {allowed}. Correct or drop them."
            )
        if len(wrong) > SHOWN:
            self.add(f"column {column} has {len(wrong) - SHOWN} more values that are not allowed.")
        return coded.fillna(UNKNOWN).astype("int64")

    def check(self, ids: pd.Series[str], *, column: str) -> None:
        """Every id is given and occurs once."""
        self.no_blank(ids, column=column, ids=ids)
        twice = ids[ids.duplicated() & (ids != "")].drop_duplicates()
        if len(twice):
            self.add(
                f"column {column} has {counted(twice, 'id')} more than once ({first(twice)}). "
                "Keep one row of each image, in one split."
            )

    def check_splits(self, splits: pd.Series[str], *, column: str = "split", ids: pd.Series[str]) -> None:
        """Every row is in a known split."""
        self.codes(splits, {name: code for code, name in enumerate(SPLITS)}, column=column, ids=ids)

    def no_blank(self, values: pd.Series[str], *, column: str, ids: pd.Series[str]) -> None:
        """No cell is empty."""
        blank = ids[values == ""]
        if len(blank):
            self.add(f"column {column} is empty in {counted(blank, 'row')} ({first(blank)}). Fill in or drop them.")


def counted(names: Sequence[str] | pd.Series[str], noun: str) -> str:
    """The count with its noun: 1 row, 2 rows."""
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def first(names: Sequence[str] | pd.Series[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(name or "without a name" for name in list(names)[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def refuse_twice(names: tuple[str, ...]) -> None:
    """Raises ConfigError for an attribute that is named more than once."""
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(f"also: {', '.join(twice)} is named more than once; name each sensitive attribute once.")
