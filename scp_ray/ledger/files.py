"""Files that are complete or absent: write beside, fsync, rename."""

from __future__ import annotations

import io
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scp_ray.errors import LedgerError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` in one step: a reader sees the old one or the whole new one.

    Raises LedgerError where the disk refuses (full, read-only), leaving what was there.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise LedgerError(
            f"cannot write {path}: {error}. Free space or choose another --out, then try again."
        ) from error
    finally:
        with suppress(OSError):  # gone after the rename; where the folder is no folder there is none
            beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step. Raises LedgerError."""
    with replacing(path) as file:
        file.write(content)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
