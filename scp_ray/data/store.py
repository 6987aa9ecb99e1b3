"""The decoded data set: one Arrow IPC file, memory-mapped, so that every trial of a node shares its pages.

A record batch per split, in the order train, val, test: its images lie side by side and are used where they lie.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from scp_ray.data.facts import REMEDY
from scp_ray.disk import replacing
from scp_ray.errors import DataError
from scp_ray.parts import Split

FORMAT = 1
AGAIN = "scp-ray data build makes it anew."
_KEY = b"scp_ray"
_DIGITS = 16  # of the file's length in its own header

Images = Callable[[Sequence[str]], NDArray[np.uint8]]  # digests of N source files -> (N, 3 * S * S)


def write_store(path: Path, table: pd.DataFrame, identity: Mapping[str, Any], images: Images) -> None:
    """Put a store at ``path`` in one step.

    Args:
        path: of the store.
        table: its rows, ``split`` in blocks: ``id, unit, label, split, file, digest`` and a column per attribute.
        identity: of the data set; ``image_size`` among it.
        images: where the decoded images come from, asked for a split at a time; best mapped from a file.

    Raises DataError where the disk refuses, leaving what was there.
    """
    header = {"identity": dict(identity), "contents": contents_of(table)}
    parts = [rows for _, rows in table.groupby("split", sort=False)]
    batches = [_batch(rows, images(list(rows["digest"])), int(identity["image_size"])) for rows in parts]
    counter = pa.MockOutputStream()
    _write(counter, batches, header, 0)
    with replacing(path, DataError, REMEDY) as file, pa.OSFile(file.name, "wb") as sink:
        _write(sink, batches, header, counter.size())


def contents_of(table: pd.DataFrame) -> str:
    """SHA-256 over every column of a store but the pixels, which follow from the files' digests."""
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def _batch(rows: pd.DataFrame, images: NDArray[np.uint8], size: int) -> pa.RecordBatch:
    flat = pa.Array.from_buffers(pa.uint8(), images.size, [None, pa.py_buffer(images)])
    image = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.uint8(), (3, size, size)), pa.FixedSizeListArray.from_arrays(flat, 3 * size * size)
    )
    columns = {name: pa.array(rows[name].to_list()) for name in rows.columns}
    return pa.record_batch([*columns.values(), image], names=[*columns, "image"])


def _write(sink: Any, batches: list[pa.RecordBatch], header: Mapping[str, Any], length: int) -> None:
    text = json.dumps({"format": FORMAT, "length": f"{length:0{_DIGITS}d}", **header})
    schema = batches[0].schema.with_metadata({_KEY: text.encode()})
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)  # 45,000 images of 128 px pass 2^31 bytes
    with pa.ipc.new_file(sink, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def _image_buffer(batch: pa.RecordBatch) -> pa.Buffer:
    return batch.column("image").storage.flatten().buffers()[1]


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
    batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    digests = [digest for batch in batches for digest in batch.column("digest").to_pylist()]
    splits = {batch.column("split")[0].as_py(): _split(batch, attributes) for batch in batches}
    return Opened(splits, sources_of(digests))


def sources_of(digests: Iterable[str]) -> str:
    """SHA-256 over the contents of all image files, in the table's order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _open(path: Path) -> tuple[pa.ipc.RecordBatchFileReader, dict[str, Any]]:
    try:
        source = pa.memory_map(str(path))
        reader = pa.ipc.open_file(source)
        header = json.loads((reader.schema.metadata or {})[_KEY])
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


def _split(batch: pa.RecordBatch, attributes: tuple[str, ...]) -> Split:
    images = np.frombuffer(_image_buffer(batch), np.uint8)
    with warnings.catch_warnings():  # torch has no read-only tensors; nobody writes into a split
        warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable")
        image = torch.from_numpy(images).view(len(batch), *batch.column("image").type.shape)
    codes = [batch.column(name).to_numpy() for name in attributes]
    return Split(
        image=image,
        label=torch.tensor(batch.column("label").to_numpy()),
        attributes=torch.tensor(np.stack(codes, axis=1)),
        id=tuple(batch.column("id").to_pylist()),
        unit=tuple(batch.column("unit").to_pylist()),
    )


class StoredPixels:
    """The images of a store, found by the digest of the file that each was decoded from."""

    def __init__(self, path: Path) -> None:
        """Raises DataError where the store is not whole."""
        reader, _ = _open(path)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        size = 3 * _image_size(reader) ** 2
        images = [np.frombuffer(_image_buffer(batch), np.uint8).reshape(-1, size) for batch in batches]
        digests = [batch.column("digest").to_pylist() for batch in batches]
        self._rows: dict[str, NDArray[np.uint8]] = {}
        for names, rows in zip(digests, images, strict=True):
            self._rows |= zip(names, rows, strict=True)

    def digests(self) -> set[str]:
        """Of the files whose pixels are here."""
        return set(self._rows)

    def read(self, digest: str) -> NDArray[np.uint8]:
        """(3 * S * S,) uint8."""
        return self._rows[digest]
