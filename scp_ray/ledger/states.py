"""State to resume from: two checksummed generations, so that a torn one never costs more than its own minutes.

A generation is NAME.state, the state itself, and NAME.json, its number and SHA-256, written after it: whatever
moment a process is killed at, the generation before is whole.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scp_ray.errors import LedgerError
from scp_ray.ledger.files import read_json, replacing, write_json

GENERATIONS = ("a", "b")


class States:
    """The generations of one trial or base model in state/<id>/."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, state: Mapping[str, Any]) -> None:
        """Over the older generation, or over a damaged one. ``state`` is a nested dict of tensors and plain values."""
        whole = self._whole()
        oldest = min(GENERATIONS, key=lambda name: whole.get(name, 0))
        path = self._folder / f"{oldest}.state"
        with replacing(path) as file:
            try:
                torch.save(dict(state), file)
            except RuntimeError as error:
                # closing its archive after a refused write, torch fails once more and hides the refusal
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        note = {"generation": max(whole.values(), default=0) + 1, "sha256": _digest(path)}
        write_json(path.with_suffix(".json"), note)

    def load(self) -> dict[str, Any] | None:
        """The newest generation that is whole, or None."""
        whole = self._whole()
        if not whole:
            return None
        newest = max(whole, key=lambda name: whole[name])
        state: dict[str, Any] = torch.load(self._folder / f"{newest}.state", map_location="cpu", weights_only=True)
        return state

    def generation(self) -> int:
        """The number of the newest generation that is whole, 0 where there is none."""
        return max(self._whole().values(), default=0)

    def keep_newest(self) -> None:
        """Drop the older generation: the trial is done, and only more rounds could want its state."""
        whole = self._whole()
        for name in set(GENERATIONS) - {max(whole, key=lambda name: whole[name], default="")}:
            for suffix in (".json", ".state"):
                (self._folder / name).with_suffix(suffix).unlink(missing_ok=True)

    def remove(self) -> None:
        """Drop everything."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def _whole(self) -> dict[str, int]:
        """The numbers of the generations whose checksum fits."""
        numbers = {}
        for name in GENERATIONS:
            path = self._folder / f"{name}.state"
            try:
                note = read_json(path.with_suffix(".json"))
            except LedgerError:
                continue  # missing or damaged: then the other generation counts
            if path.exists() and note.get("sha256") == _digest(path):
                numbers[name] = int(note["generation"])
        return numbers


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
