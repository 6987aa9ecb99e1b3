"""The ledger's files, each complete or absent."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scp_ray import places
from scp_ray.errors import LedgerError
from scp_ray.places import AnyPath

STORE_REMEDY = "See whether the bucket is there and may be written to, or choose another --out, then try again."
_AT_ONCE = 16  # requests to an object store where many files are read


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


def read_json(path: AnyPath) -> dict[str, Any]:
    """Raises LedgerError where the file is missing or no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"cannot read {path}: {error}.") from error
    if not isinstance(content, dict):
        raise LedgerError(f"{path} should hold a JSON object.")
    return content


def write_table(path: AnyPath, table: pa.Table) -> None:
    """A Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read_arrow(path: AnyPath) -> pa.Table:
    """A Parquet file as it is. Raises LedgerError where it is missing or damaged."""
    try:
        return pq.read_table(path if isinstance(path, Path) else pa.BufferReader(path.read_bytes()))
    except (OSError, pa.ArrowInvalid) as error:
        raise LedgerError(f"cannot read {path}: {error}. Delete it; running the sweep again makes it anew.") from error


def read_many(paths: Sequence[AnyPath]) -> list[pa.Table]:
    """Parquet files as they are, in order; many at once where they lie on an object store. Raises LedgerError."""
    if all(isinstance(path, Path) for path in paths):
        return [read_arrow(path) for path in paths]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read_arrow, paths))


def read_table(path: AnyPath) -> pd.DataFrame:
    """A Parquet file as a frame. Raises LedgerError."""
    frame: pd.DataFrame = read_arrow(path).to_pandas()
    return frame


def replace_rounds(path: AnyPath, rows: pa.Table, rounds: Sequence[int]) -> None:
    """Put ``rows`` in place of those of the same rounds, and of all later ones, in the Parquet file at ``path``."""
    if path.exists():
        before = read_arrow(path)
        earlier = before.filter(pa.compute.less(before["round"], min(rounds)))
        rows = pa.concat_tables([earlier, rows], promote_options="permissive")
    write_table(path, rows)
