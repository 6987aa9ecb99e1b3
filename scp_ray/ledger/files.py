"""The ledger's files, each complete or absent."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scp_ray import disk
from scp_ray.errors import LedgerError


def replacing(path: Path) -> AbstractContextManager[BinaryIO]:
    """A file to write that takes the place of ``path`` in one step. Raises LedgerError where the disk refuses."""
    return disk.replacing(path, LedgerError, "Free space or choose another --out, then try again.")


def write_bytes(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step. Raises LedgerError."""
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Indented, in the given key order."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Raises LedgerError where the file is missing or no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"cannot read {path}: {error}.") from error
    if not isinstance(content, dict):
        raise LedgerError(f"{path} should hold a JSON object.")
    return content


def write_table(path: Path, table: pa.Table) -> None:
    """A Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read_arrow(path: Path) -> pa.Table:
    """A Parquet file as it is. Raises LedgerError where it is missing or damaged."""
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise LedgerError(f"cannot read {path}: {error}. Delete it; running the sweep again makes it anew.") from error


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet file as a frame. Raises LedgerError."""
    frame: pd.DataFrame = read_arrow(path).to_pandas()
    return frame


def replace_rounds(path: Path, rows: pa.Table, rounds: Sequence[int]) -> None:
    """Put ``rows`` in place of those of the same rounds, and of all later ones, in the Parquet file at ``path``."""
    if path.exists():
        before = read_arrow(path)
        earlier = before.filter(pa.compute.less(before["round"], min(rounds)))
        rows = pa.concat_tables([earlier, rows], promote_options="permissive")
    write_table(path, rows)
