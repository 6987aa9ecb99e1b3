"""The ledger's files, each complete or absent."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scp_ray import places
from scp_ray.errors import LedgerError, StoreError
from scp_ray.places import AnyPath
from scp_ray.remote import RemotePath

STORE_REMEDY = "See whether the bucket is there and may be written to, or choose another --out, then try again."
_SMALL = 2**15  # bytes of a table in memory
_AT_ONCE = 16  # requests to an object store where many files are read
_A_PART = 32  # local files that are worth a thread
_FOOTER = 1 << 16  # bytes

# as disk.replacing names them; these are written by the sweep's driver and its workers alone
_HALF_WRITTEN = re.compile(r"\..+\.(parquet|safetensors|state|json|db)\.[0-9a-f]{8}")
# reports, drivers that come in vain and doctors hold no lease: what is young may be in use
_LEFT_BEHIND = re.compile(
    r"\..+\.(png|svg|csv|md|tex|html)\.[0-9a-f]{8}|\.driver\.json\.(new\.)?[0-9a-f]{32}|\.probe-[0-9a-f]{32}"
)
_YOUNG_S = 60.0


def replacing(path: AnyPath) -> AbstractContextManager[BinaryIO]:
    """A file to write that takes the place of ``path`` in one step. Raises LedgerError where disk or store refuses."""
    remedy = "Free space or choose another --out, then try again." if isinstance(path, Path) else STORE_REMEDY
    return places.replacing(path, LedgerError, remedy)


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step. Raises LedgerError."""
    with replacing(path) as file:
        file.write(content)


def write_json(path: AnyPath, content: Mapping[str, Any]) -> None:
    """Indented, in the given key order."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: AnyPath, remedy: str = "") -> dict[str, Any]:
    """Raises LedgerError, ending in ``remedy`` where the file is missing or no JSON object; see ``unreadable``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, error, remedy) from error
    if not isinstance(content, dict):
        raise LedgerError(f"{path} should hold a JSON object. {remedy}".rstrip())
    return content


def unreadable(path: AnyPath, error: Exception, remedy: str) -> LedgerError:
    """What to raise for a file that could not be read, ending in ``remedy`` only where it is missing or damaged.

    A store or a disk that does not hand it out says nothing of what is in it: a StoreError, or the disk's own words.
    """
    said = f"cannot read {path}: {error}."
    if isinstance(error, StoreError):
        return StoreError(f"{said} Delete nothing: try again when the store answers and lets you read it.")
    # what Arrow cannot make sense of is an OSError too, but none of the system's
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
        return LedgerError(f"{said} The disk refuses it: delete nothing, and try again when it can be read.")
    return LedgerError(f"{said} {remedy}".rstrip())


def read_failure(path: AnyPath) -> dict[str, Any]:
    """failures/<id>.json. A damaged one is still a failure, and nobody knows why it should not be retried."""
    try:
        content = read_json(path)
        if not {"label", "reason", "rerun"} <= content.keys():
            raise LedgerError(f"{path} is no note of a failure.")
    except StoreError:
        raise
    except LedgerError as error:
        reason = f"nobody knows why: {error} Running the sweep again tries it once more."
        return {"label": path.stem, "kind": "Unknown", "reason": reason, "rerun": "the sweep's own command"}
    return content


def write_table(path: AnyPath, table: pa.Table) -> None:
    """A Parquet file; a small one plain: compressed it is no smaller, and takes three times as long to read."""
    buffer, small = io.BytesIO(), table.nbytes < _SMALL
    pq.write_table(table, buffer, compression="none" if small else "zstd", use_dictionary=not small)
    write_bytes(path, buffer.getvalue())


def read_arrow(path: AnyPath) -> pa.Table:
    """A Parquet file as it is. Raises LedgerError where it is missing or damaged; else see ``unreadable``."""
    try:
        # a table of one row and 70 columns takes pq.read_table, made for folders of files, five times as long
        with pq.ParquetFile(path if isinstance(path, Path) else pa.BufferReader(path.read_bytes())) as file:
            return file.read(use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(path, error, _remedy(path)) from error


def check_table(path: AnyPath) -> int:
    """How many rows a Parquet file says it has: a look at its end, where a torn one shows. Raises as ``read_arrow``."""
    try:
        return int(_footer(path).num_rows)
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(path, error, _remedy(path)) from error


def _footer(path: AnyPath) -> pq.FileMetaData:
    """Of a store's object only the end is fetched, unless the footer is longer."""
    if isinstance(path, Path):
        return pq.read_metadata(path)
    with suppress(pa.ArrowInvalid):
        return pq.read_metadata(pa.BufferReader(path.tail(_FOOTER)))
    return pq.read_metadata(pa.BufferReader(path.read_bytes()))


def _remedy(path: AnyPath) -> str:
    """A trial is whole or run again from its base model; so is a base model, with the scores made of it."""
    if path.parent.name == "evidence" or path.name == "evidence.parquet":
        return "Delete it; scp-ray report makes it anew from the stored predictions."
    if path.parent.name in ("channels", "predictions"):
        rounds = path.parent.parent / "rounds" / path.name
        return f"Delete {rounds}; running the sweep again then makes all tables of this trial anew."
    if path.parent.parent.name == "bases":
        return f"Delete {path.parent}; running the sweep again trains this base model anew where it is needed."
    return "Delete it; running the sweep again makes it anew."


def read_many(paths: Sequence[AnyPath]) -> list[pa.Table]:
    """Parquet files as they are, in order; many at once where they lie on an object store. Raises LedgerError.

    Local ones are read in as many parts as there are cores, of _A_PART files or more: a thread for each file would only
    take turns with the others.
    """
    if not all(isinstance(path, Path) for path in paths):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(read_arrow, paths))
    each = max(_A_PART, -(-len(paths) // _cores()))
    parts = [paths[first : first + each] for first in range(0, len(paths), each)]
    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        return [table for tables in pool.map(lambda part: [*map(read_arrow, part)], parts) for table in tables]


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_table(path: AnyPath) -> pd.DataFrame:
    """A Parquet file as a frame. Raises LedgerError."""
    frame: pd.DataFrame = read_arrow(path).to_pandas()
    return frame


def written(path: AnyPath) -> object:
    """Changes when the file does; None where there is none: who reads it says so."""
    try:
        return path.version() if isinstance(path, RemotePath) else path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def clear_half_written(root: AnyPath) -> None:
    """Remove what killed writers left beside the files that they were writing; only while holding the sweep.

    On an object store there is nothing: an object is there whole or not at all.
    """
    if not isinstance(root, Path):
        return
    for path in list(root.rglob(".*")):
        if _HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)
        elif _LEFT_BEHIND.fullmatch(path.name):
            with suppress(OSError):  # gone by now, or another node's: it is in nobody's way
                if time.time() - path.stat().st_mtime > _YOUNG_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def replace_rounds(path: AnyPath, rows: pa.Table, rounds: Sequence[int]) -> None:
    """Put ``rows`` in place of those of the same rounds, and of all later ones, in the Parquet file at ``path``."""
    if path.exists():
        before = read_arrow(path)
        earlier = before.filter(pa.compute.less(before["round"], min(rounds)))
        rows = pa.concat_tables([earlier, rows], promote_options="permissive")
    write_table(path, rows)
