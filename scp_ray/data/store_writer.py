"""Making a store: the rest of an Arrow file is written around pixels that already lie where it has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BufferedRandom, RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from scp_ray.data.facts import REMEDY
from scp_ray.data.scratch import LEAD
from scp_ray.data.store import FORMAT, KEY, contents_of
from scp_ray.disk import settle
from scp_ray.errors import DataError

_DIGITS = 16  # of the file's length in its own header


def write_store(path: Path, table: pd.DataFrame, identity: Mapping[str, Any], pixels: Path) -> None:
    """Make a store of a file of pixels, in one step: it is moved to ``path``.

    Args:
        path: of the store.
        table: its rows, ``split`` in blocks: ``id, unit, label, split, file, digest`` and a column per attribute.
        identity: of the data set; ``image_size`` among it.
        pixels: a file of the same disk: (N, 3, S, S) uint8 from byte LEAD on, a row of the table each.

    Raises DataError where the disk refuses, leaving the store that was there and the pixels.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pixels.open("r+b") as file:
            _write_around(file, table, {"identity": dict(identity), "contents": contents_of(table)})
            settle(file, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}. {REMEDY}") from error


def _write_around(file: BufferedRandom, table: pd.DataFrame, header: Mapping[str, Any]) -> None:
    size = int(header["identity"]["image_size"])
    images = np.memmap(file, np.uint8, "r", LEAD, (len(table), 3 * size * size))
    batch = _batch(table, images, size)
    skipped = images.ctypes.data
    bare = _Around(None, skipped)
    _write(bare, batch, header, length=0, fill=0)
    fill = LEAD - bare.skipped_at
    if fill < 0:
        raise DataError(f"the header of a store has room for {LEAD:,} bytes and this one takes {bare.skipped_at:,}.")
    counter = _Around(None, skipped)
    _write(counter, batch, header, length=0, fill=fill)
    file.truncate(LEAD + images.nbytes)
    _write(_Around(file, skipped), batch, header, counter.at, fill)


class _Around(RawIOBase):
    """A file that already holds the buffer at one address: Arrow passes it like the others, and it is not written.

    Without a file it counts.
    """

    def __init__(self, file: BufferedRandom | None, skipped: int) -> None:
        self._file, self._skipped = file, skipped
        self.at = self.skipped_at = 0

    def write(self, content: bytes | pa.Buffer) -> int:
        size = memoryview(content).nbytes
        if isinstance(content, pa.Buffer) and content.address == self._skipped:
            self.skipped_at = self.at
        elif self._file is not None:
            self._file.seek(self.at)
            self._file.write(content)
        self.at += size
        return size

    def tell(self) -> int:
        return self.at

    def writable(self) -> bool:
        return True


def _batch(table: pd.DataFrame, images: NDArray[np.uint8], size: int) -> pa.RecordBatch:
    flat = pa.Array.from_buffers(pa.uint8(), images.size, [None, pa.py_buffer(images)])
    image = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.uint8(), (3, size, size)), pa.FixedSizeListArray.from_arrays(flat, 3 * size * size)
    )
    columns = {name: pa.array(table[name].to_list()) for name in table.columns}
    return pa.record_batch([image, *columns.values()], names=["image", *columns])


def _write(sink: _Around, batch: pa.RecordBatch, header: Mapping[str, Any], length: int, fill: int) -> None:
    text = json.dumps({"format": FORMAT, "length": f"{length:0{_DIGITS}d}", **header}) + " " * fill
    schema = batch.schema.with_metadata({KEY: text.encode()})
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)  # 45,000 images of 128 px pass 2^31 bytes
    with pa.PythonFile(sink, "w") as file, pa.ipc.new_file(file, schema, options=options) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))
