"""Two generations of state: a damaged one costs itself alone."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from scp_ray.errors import LedgerError
from scp_ray.ledger.states import States


def save(states: States, folder: Path, number: int) -> Path:
    """Save a state that holds ``number``; returns the state file that it changed."""
    before = {path: path.read_bytes() for path in folder.glob("*.state")}
    states.save({"round": number, "learner": {"weight": torch.full((3, 2), float(number))}, "means": {"loss": 0.5}})
    changed = [path for path in folder.glob("*.state") if path.read_bytes() != before.get(path)]
    assert len(changed) == 1
    return changed[0]


def loaded(states: States) -> int | None:
    state = states.load()
    if state is None:
        return None
    assert state["learner"]["weight"].tolist() == [[float(state["round"])] * 2] * 3
    assert state["means"] == {"loss": 0.5}
    return state["round"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [flip, truncate, empty, Path.unlink]


def test_the_newest_state_wins_and_two_are_kept(tmp_path):
    states = States(tmp_path)
    assert loaded(states) is None
    for number in (1, 2, 3, 4):
        save(states, tmp_path, number)
        assert loaded(States(tmp_path)) == number
    assert len([*tmp_path.glob("*.state")]) == 2


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("saves", [2, 3, 4])
def test_a_damaged_state_costs_one_generation(tmp_path, damage, saves):
    states = States(tmp_path)
    newest = [save(states, tmp_path, number) for number in range(1, saves + 1)][-1]
    damage(newest)
    assert loaded(states) == saves - 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_file_beside_a_state_may_be_damaged_too(tmp_path, damage):
    states = States(tmp_path)
    save(states, tmp_path, 1)
    newest = save(states, tmp_path, 2)
    for path in tmp_path.glob(f"{newest.stem}.*"):
        if path.suffix != ".state":
            damage(path)
            assert loaded(states) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_two_damaged_states_are_none(tmp_path, damage):
    states = States(tmp_path)
    for path in [save(states, tmp_path, number) for number in (1, 2, 3)][-2:]:
        damage(path)
    assert loaded(states) is None
    save(states, tmp_path, 9)
    assert loaded(states) == 9


def test_a_damaged_state_is_overwritten_before_a_whole_one(tmp_path):
    states = States(tmp_path)
    save(states, tmp_path, 1)
    flip(save(states, tmp_path, 2))
    assert loaded(states) == 1
    flip(save(states, tmp_path, 3))
    assert loaded(states) == 1


def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch):
    states = States(tmp_path)
    save(states, tmp_path, 1)
    save(states, tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(LedgerError, match="No space left"):
            states.save({"round": 3})
    assert loaded(states) == 2


def test_a_kill_between_the_two_files_of_a_generation_leaves_the_state_before(tmp_path, monkeypatch):
    states = States(tmp_path)
    save(states, tmp_path, 1)
    save(states, tmp_path, 2)
    real, files = os.fsync, []

    def die_at_the_second_file(handle: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            files.append(handle)
        if len(files) == 2:
            raise KeyboardInterrupt
        real(handle)

    monkeypatch.setattr(os, "fsync", die_at_the_second_file)
    with suppress(KeyboardInterrupt):
        states.save({"round": 3, "learner": {"weight": torch.full((3, 2), 3.0)}, "means": {"loss": 0.5}})
    monkeypatch.undo()
    assert loaded(states) == (2 if len(files) == 2 else 3)


def test_keep_newest_drops_the_older_generation(tmp_path):
    states = States(tmp_path)
    states.keep_newest()
    kept = [save(states, tmp_path, number) for number in (1, 2, 3)][-1]
    states.keep_newest()
    assert [*tmp_path.glob("*.state")] == [kept]
    assert loaded(states) == 3
    states.remove()
    assert not tmp_path.exists()
    assert loaded(states) is None
    states.remove()


def test_a_state_that_would_execute_something_is_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    states = States(tmp_path)
    states.save({"round": 1, "trap": Trap()})
    with suppress(Exception):
        states.load()
    assert not (tmp_path / "ran").exists()
