"""State to resume from: two checksummed generations, so that a torn one never costs more than its own minutes.

A generation is NAME.state, the state itself, and NAME.json, its number and SHA-256, written after it: whatever
moment a process is killed at, the generation before is whole.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scp_ray.errors import LedgerError, StoreError
from scp_ray.ledger.files import read_json, replacing, write_json
from scp_ray.places import AnyPath, remove_tree
from scp_ray.remote import RemotePath

GENERATIONS = ("a", "b")


class States:
    """The generations of one trial or base model in state/<id>/."""

    def __init__(self, folder: AnyPath) -> None:
        self._folder = folder
        self._digests: dict[str, str] = {}  # of objects of a store, by version: each is fetched once to be checked

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
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        if isinstance(path, RemotePath):
            self._digests[path.version()] = digest
        write_json(path.with_suffix(".json"), {"generation": max(whole.values(), default=0) + 1, "sha256": digest})

    def load(self) -> dict[str, Any] | None:
        """The newest generation that is whole, or None."""
        whole = self._whole()
        if not whole:
            return None
        newest = max(whole, key=lambda name: whole[name])
        path = self._folder / f"{newest}.state"
        source = path if isinstance(path, Path) else io.BytesIO(path.read_bytes())
        state: dict[str, Any] = torch.load(source, map_location="cpu", weights_only=True)
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
        remove_tree(self._folder)

    def _whole(self) -> dict[str, int]:
        """The numbers of the generations whose checksum fits."""
        numbers = {}
        for name in GENERATIONS:
            path = self._folder / f"{name}.state"
            try:
                note = read_json(path.with_suffix(".json"))
            except StoreError:
                raise
            except LedgerError:
                continue  # missing or damaged: then the other generation counts
            if path.exists() and note.get("sha256") == self._digest(path):
                numbers[name] = int(note["generation"])
        return numbers

    def _digest(self, path: AnyPath) -> str:
        if isinstance(path, RemotePath):
            version = path.version()
            if version not in self._digests:
                self._digests[version] = hashlib.sha256(path.read_bytes()).hexdigest()
            return self._digests[version]
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
