"""Feature maps of more samples than memory should hold, in a scratch file that is gone with its process."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from scp_ray.errors import ResourceError


class MapFile:
    """Maps (N, C, D) float32: written batch by batch, each channel by channel, and read by blocks of channels.

    The file has no name, so that whatever ends the process, its space is free again. It lies in TMPDIR; without one in
    /var/tmp, which is a disk also where /tmp is memory.
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []  # samples of each batch
        self._shape = (0, 0)  # C, D
        self._closing = ExitStack()

    def __enter__(self) -> MapFile:
        self.folder = _scratch_folder()
        try:
            self._file = self._closing.enter_context(tempfile.TemporaryFile(dir=self.folder))
        except OSError as error:
            raise ResourceError(f"no scratch file can be made in {self.folder}: {error}. {_REMEDY}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @property
    def samples(self) -> int:
        """N, so far."""
        return sum(self._sizes)

    def check_space(self, samples: int, maps: Tensor) -> None:
        """Raises ResourceError where so many samples with maps of this shape (n, C, D) do not fit on the disk."""
        needed, free = 4e-6 * samples * maps[0].numel(), shutil.disk_usage(self.folder).free / 1e6
        if needed > free:
            raise ResourceError(
                f"the maps of {samples} samples take {needed:,.0f} MB, and {self.folder} has {free:,.0f} MB "
                f"left. {_REMEDY}"
            )

    def append(self, maps: Tensor) -> None:
        """Add a batch (n, C, D). Raises ResourceError where the disk refuses."""
        self._shape = (maps.shape[1], maps.shape[2])
        try:
            self._file.seek(4 * self.samples * maps[0].numel())
            self._file.write(_bytes_of(maps.float().cpu().transpose(0, 1).contiguous()))
            self._file.flush()
        except OSError as error:
            raise ResourceError(f"the maps cannot be written in {self.folder}: {error}. {_REMEDY}") from error
        self._sizes.append(len(maps))

    def block(self, channels: slice) -> Tensor:
        """(N, c, D) of those channels; each channel's maps lie together."""
        count, size = self._shape
        chosen = range(count)[channels]
        block = torch.empty(len(chosen), self.samples, size)
        start = 0
        for samples in self._sizes:
            part = torch.empty(len(chosen), samples, size)
            self._file.seek(4 * size * (start * count + chosen.start * samples))
            read = self._file.readinto(_bytes_of(part))
            if read != 4 * part.numel():
                raise ResourceError(f"the scratch file in {self.folder} has lost its end; is the disk in order?")
            block[:, start : start + samples] = part
            start += samples
        return block.transpose(0, 1)


_REMEDY = "Set TMPDIR to a folder on a disk that has room, or free some."


def _scratch_folder() -> Path:
    return Path(os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()))


def _bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.numpy()).cast("B")
