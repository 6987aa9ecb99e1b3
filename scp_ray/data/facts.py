"""What is known of each image file, kept from one look to the next.

A file's size and time of change are only a hint when to look again; what counts is the digest of its content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather

from scp_ray.data.pixels import DECODE_VERSION, Look
from scp_ray.data.tables import below
from scp_ray.disk import replacing
from scp_ray.errors import DataError

STAMPS = ("bytes", "changed_ns")
FACTS = ("digest", "kind", "rotated", "problem", "truncated", "phash")
COLUMNS = ("file", *STAMPS, *FACTS)
REMEDY = "Free space, or name another place by the environment variable SCP_RAY_STORE."
_FILE = f"facts-{DECODE_VERSION}.arrow"


def fact(file: str, stamp: tuple[int, int], look: Look) -> dict[str, object]:
    """A row of the facts."""
    return {"file": file, **dict(zip(STAMPS, stamp, strict=True)), **{name: getattr(look, name) for name in FACTS}}


def load_facts(folder: Path) -> pd.DataFrame:
    """A row per file that was ever looked at, indexed by ``file``; a damaged record counts as none."""
    try:
        table: pd.DataFrame = feather.read_feather(folder / _FILE)
    except (OSError, pa.ArrowInvalid):
        return frame([])
    return table.set_index("file") if tuple(table.columns) == COLUMNS else frame([])


def save_facts(folder: Path, facts: pd.DataFrame) -> None:
    """In one step. Raises DataError where the disk refuses."""
    with replacing(folder / _FILE, DataError, REMEDY) as file:
        feather.write_feather(facts.reset_index(), file)


def frame(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    """Rows as a table indexed by ``file``; a later row of a file replaces an earlier one."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return table.drop_duplicates("file", keep="last").set_index("file")


def fresh(facts: pd.DataFrame, stamps: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """The facts whose file has the size and time it had when it was looked at.

    A file that the disk did not give is tried again.
    """
    absent = (facts["problem"] == "missing") & (facts["bytes"] < 0)
    facts = facts[(facts["digest"] != "") | absent]
    facts = facts[facts.index.isin(list(stamps))]
    now = pd.DataFrame.from_dict(stamps, orient="index", columns=list(STAMPS)).reindex(facts.index)
    return facts[(facts[list(STAMPS)] == now).all(axis=1)]


def read_stamps(root: Path, files: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Size and time of change of each file below ``root``, in the files' order; (-1, -1) for one that is not there.

    Raises DataError for a file that is not below it once ".." and links are followed.
    """
    stamps = dict.fromkeys(files, (-1, -1))
    folders: dict[str, dict[str, str]] = {}
    for file in stamps:
        head, slash, name = file.rpartition("/")
        folders.setdefault(head + slash, {})[name] = file
    for head, names in folders.items():
        folder = root / head
        if not folder.is_dir():
            continue
        below(root, folder)
        try:
            with os.scandir(folder) as entries:
                wanted = [entry for entry in entries if entry.name in names and entry.is_file()]
                found = {entry.name: entry.stat() for entry in wanted}
        except OSError as error:
            raise DataError(f"{folder} cannot be read: {error}. Make it readable, then try again.") from error
        for entry in wanted:
            if entry.is_symlink():
                below(root, folder / entry.name)
        stamps |= {names[name]: (status.st_size, status.st_mtime_ns) for name, status in found.items()}
    return stamps
