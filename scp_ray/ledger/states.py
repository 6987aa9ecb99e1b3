"""State to resume from: two checksummed generations, so that a torn one never costs more than its own minutes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scp_ray.ledger.files import read_state, write_state

GENERATIONS = ("a", "b")


class States:
    """The generations of one trial or base model in state/<id>/."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, state: Mapping[str, Any]) -> None:
        """Over the older generation."""
        numbers = self._numbers()
        oldest = min(GENERATIONS, key=lambda name: numbers.get(name, -1))
        number = max(numbers.values(), default=0) + 1
        write_state(self._folder / f"{oldest}.state", dict(state) | {"generation": number})

    def load(self) -> dict[str, Any] | None:
        """The newest generation that is whole, or None."""
        whole = [state for name in GENERATIONS if (state := read_state(self._folder / f"{name}.state"))]
        return max(whole, key=lambda state: state["generation"], default=None)

    def keep_newest(self) -> None:
        """Drop the older generation: the trial is done, and only more rounds could want its state."""
        numbers = self._numbers()
        for name in sorted(numbers, key=lambda name: numbers[name])[:-1]:
            (self._folder / f"{name}.state").unlink()

    def remove(self) -> None:
        """Drop everything."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def _numbers(self) -> dict[str, int]:
        states = {name: read_state(self._folder / f"{name}.state") for name in GENERATIONS}
        return {name: state["generation"] for name, state in states.items() if state}
