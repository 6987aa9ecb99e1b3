"""Where stores are kept, the pictures they are built from, and what was decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pictured import make

from scp_ray.data import build as building


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCP_RAY_STORE", str(tmp_path / "stores"))
    return tmp_path / "stores"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "root", 12)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that were given to decoding, since the list was last cleared."""
    files: list[str] = []
    looks = building._looks

    def watched(root: Path, given: Sequence[str], *more: Any) -> Any:
        files.extend(Path(file).stem for file in given)
        return looks(root, given, *more)

    monkeypatch.setattr(building, "_looks", watched)
    yield files
