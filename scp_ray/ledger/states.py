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
        """Over the older generation. ``state`` is a nested dict of tensors and plain values."""
        numbers = {name: note["generation"] for name, note in self._notes().items()}
        oldest = min(GENERATIONS, key=lambda name: numbers.get(name, 0))
        path = self._folder / f"{oldest}.state"
        with replacing(path) as file:
            torch.save(dict(state), file)
        note = {"generation": max(numbers.values(), default=0) + 1, "sha256": _digest(path)}
        write_json(path.with_suffix(".json"), note)

    def load(self) -> dict[str, Any] | None:
        """The newest generation whose checksum fits, or None."""
        notes = self._notes()
        for name in sorted(notes, key=lambda name: -notes[name]["generation"]):
            path = self._folder / f"{name}.state"
            if path.exists() and _digest(path) == notes[name]["sha256"]:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
        return None

    def keep_newest(self) -> None:
        """Drop the older generation: the trial is done, and only more rounds could want its state."""
        notes = self._notes()
        for name in sorted(notes, key=lambda name: notes[name]["generation"])[:-1]:
            for suffix in (".json", ".state"):
                (self._folder / name).with_suffix(suffix).unlink(missing_ok=True)

    def remove(self) -> None:
        """Drop everything."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def _notes(self) -> dict[str, dict[str, Any]]:
        """Number and checksum of each generation that has them."""
        notes = {}
        for name in GENERATIONS:
            try:
                note = read_json(self._folder / f"{name}.json")
            except LedgerError:
                continue  # missing, or damaged: then the other generation counts
            if {"generation", "sha256"} <= note.keys():
                notes[name] = note
        return notes


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
