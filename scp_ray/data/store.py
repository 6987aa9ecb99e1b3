"""The decoded data set: one Arrow IPC file, memory-mapped, so that every trial of a node shares its pages.

One record batch, its images first: they lie side by side from byte LEAD on, in blocks of train, val and test, and are
used where they lie. They are decoded there, too: a store is made by writing the rest around them.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from scp_ray.errors import DataError
from scp_ray.parts import Split

FORMAT = 2
AGAIN = "scp-ray data build makes it anew."
KEY = b"scp_ray"


def contents_of(table: pd.DataFrame) -> str:
    """SHA-256 over every column of a store but the pixels, which follow from the files' digests."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def _images(batch: pa.RecordBatch) -> NDArray[np.uint8]:
    """(N, 3, S, S), where they lie."""
    column = batch.column("image")
    shape: tuple[int, ...] = (len(batch), *column.type.shape)
    return np.frombuffer(column.storage.flatten().buffers()[1], np.uint8).reshape(shape)


def read_header(path: Path) -> dict[str, Any]:
    """What a store says of itself. Raises DataError where it is torn, cut, lengthened or of another version."""
    return _open(path)[1]


def is_current(path: Path, table: pd.DataFrame, identity: Mapping[str, Any]) -> bool:
    """Whether a store is there and holds this table, of these files.

    Raises DataError where what is there is not whole or of another data set.
    """
    if not path.exists():
        return False
    header = read_header(path)
    _check_identity(path, header, identity)
    return bool(header["contents"] == contents_of(table))


def _check_identity(path: Path, header: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    for key, wanted in identity.items():
        if header["identity"].get(key) != wanted:
            raise DataError(
                f"{path} was built from another data set: its {key} is {header['identity'].get(key)}, wanted is "
                f"{wanted}. {AGAIN}"
            )


class Opened(NamedTuple):
    """What a store holds."""

    splits: dict[str, Split]  # their images left on disk until they are asked for
    sources: str  # SHA-256 over the contents of the image files


def open_store(path: Path, identity: Mapping[str, Any], attributes: tuple[str, ...]) -> Opened:
    """Map a store.

    Args:
        path: of the store.
        identity: of the data set that is asked for.
        attributes: the sensitive attributes' columns, the primary one first.

    Raises DataError where the store is torn, has another length or version, or was built from another table.
    """
    reader, header = _open(path)
    _check_identity(path, header, identity)
    if missing := [name for name in attributes if name not in reader.schema.names]:
        raise DataError(f"{path} has no column {', '.join(missing)}. {AGAIN}")
    batch = reader.get_batch(0)
    return Opened(_splits(batch, attributes), sources_of(batch.column("digest").to_pylist()))


def sources_of(digests: Iterable[str]) -> str:
    """SHA-256 over the contents of all image files, in the table's order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _open(path: Path) -> tuple[pa.ipc.RecordBatchFileReader, dict[str, Any]]:
    try:
        source = pa.memory_map(str(path))
        reader = pa.ipc.open_file(source)
        header = json.loads((reader.schema.metadata or {})[KEY])
        form, length, _, size = header["format"], int(header["length"]), header["contents"], _image_size(reader)
        said = header["identity"]["image_size"]
    except (OSError, pa.ArrowInvalid, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no whole store of images: {error}. {AGAIN}") from error
    if form != FORMAT:
        raise DataError(f"{path} has format {form}; this version reads {FORMAT}. {AGAIN}")
    if source.size() != length:
        raise DataError(f"{path} is {source.size():,} bytes long and was written with {length:,}. {AGAIN}")
    if size != said:
        raise DataError(f"{path} says that its images have {said} pixels a side, and they have {size}. {AGAIN}")
    return reader, header


def _image_size(reader: pa.ipc.RecordBatchFileReader) -> int:
    return int(reader.schema.field("image").type.shape[2])


def _splits(batch: pa.RecordBatch, attributes: tuple[str, ...]) -> dict[str, Split]:
    with warnings.catch_warnings():  # torch has no read-only tensors; nobody writes into a split
        warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable")
        images = torch.from_numpy(_images(batch))
    splits, names = {}, batch.column("split").to_pylist()
    for name in dict.fromkeys(names):
        rows = slice(names.index(name), names.index(name) + names.count(name))
        part = batch.slice(rows.start, rows.stop - rows.start)
        codes = [part.column(attribute).to_numpy() for attribute in attributes]
        splits[name] = Split(
            image=images[rows],
            label=torch.tensor(part.column("label").to_numpy()),
            attributes=torch.tensor(np.stack(codes, axis=1)),
            id=tuple(part.column("id").to_pylist()),
            unit=tuple(part.column("unit").to_pylist()),
        )
    return splits


class StoredPixels:
    """The images of a store, found by the digest of the file that each was decoded from."""

    def __init__(self, path: Path) -> None:
        """Raises DataError where the store is not whole."""
        batch = _open(path)[0].get_batch(0)
        images = _images(batch).reshape(len(batch), -1)
        self._rows: dict[str, NDArray[np.uint8]] = dict(zip(batch.column("digest").to_pylist(), images, strict=True))

    def digests(self) -> set[str]:
        """Of the files whose pixels are here."""
        return set(self._rows)

    def read(self, digest: str) -> NDArray[np.uint8]:
        """(3 * S * S,) uint8."""
        return self._rows[digest]
