"""The ledger's files, each complete or absent."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scp_ray import disk
from scp_ray.errors import LedgerError

_HALF_WRITTEN = re.compile(r"\..+\.(parquet|safetensors|state|json)\.[0-9a-f]{8}")  # as disk.replacing names them


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


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Raises LedgerError, ending in ``remedy``, where the file is missing or no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"cannot read {path}: {error}. {remedy}".rstrip()) from error
    if not isinstance(content, dict):
        raise LedgerError(f"{path} should hold a JSON object. {remedy}".rstrip())
    return content


def read_failure(path: Path) -> dict[str, Any]:
    """failures/<id>.json. One that cannot be read is still a failure, and nobody knows why it should not be retried."""
    try:
        content = read_json(path)
        if not {"label", "reason", "rerun"} <= content.keys():
            raise LedgerError(f"{path} is no note of a failure.")
    except LedgerError as error:
        reason = f"nobody knows why: {error} Running the sweep again tries it once more."
        return {"label": path.stem, "kind": "Unknown", "reason": reason, "rerun": "the sweep's own command"}
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
        raise LedgerError(f"cannot read {path}: {error}. {_remedy(path)}") from error


def check_table(path: Path) -> int:
    """How many rows a Parquet file says it has: a look at its end, where a torn one shows. Raises LedgerError."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowInvalid) as error:
        raise LedgerError(f"cannot read {path}: {error}. {_remedy(path)}") from error


def _remedy(path: Path) -> str:
    """A trial is whole or run again from its base model; so is a base model, with the scores made of it."""
    if path.parent.name in ("channels", "predictions"):
        rounds = path.parents[1] / "rounds" / path.name
        return f"Delete {rounds}; running the sweep again then makes all tables of this trial anew."
    if path.parent.parent.name == "bases":
        return f"Delete {path.parent}; running the sweep again trains this base model anew where it is needed."
    return "Delete it; running the sweep again makes it anew."


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet file as a frame. Raises LedgerError."""
    frame: pd.DataFrame = read_arrow(path).to_pandas()
    return frame


def clear_half_written(root: Path) -> None:
    """Remove what killed writers left beside the files that they were writing; only while holding the sweep."""
    for path in root.rglob(".*"):
        if _HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)


def replace_rounds(path: Path, rows: pa.Table, rounds: Sequence[int]) -> None:
    """Put ``rows`` in place of those of the same rounds, and of all later ones, in the Parquet file at ``path``."""
    if path.exists():
        before = read_arrow(path)
        earlier = before.filter(pa.compute.less(before["round"], min(rounds)))
        rows = pa.concat_tables([earlier, rows], promote_options="permissive")
    write_table(path, rows)
