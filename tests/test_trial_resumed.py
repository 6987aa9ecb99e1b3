"""One trial without Ray, interrupted: it goes on from anywhere without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from miniature import same_ledgers, same_rows
from recording import CPU, record_all, trial

from scp_ray.config import Arm
from scp_ray.ledger import Ledger
from scp_ray.ledger.states import States
from scp_ray.trial import Result, Step
from scp_ray.tune import record
from scp_ray.tune.record import record_base, record_trial
from scp_ray.tune.space import plan_jobs


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_all(trial(), tmp_path_factory.mktemp("undisturbed")).root


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code catches it."""


def killed_at(save: int, monkeypatch: pytest.MonkeyPatch, after: bool = True) -> None:
    """Die at the given saving of state (1 = the first), before or after it reaches the disk."""
    original, count = States.save, iter(range(1, 10**6))

    def dying(self: States, state: Any) -> None:
        number = next(count)
        if number == save and not after:
            raise Killed
        original(self, state)
        if number == save:
            raise Killed

    monkeypatch.setattr(States, "save", dying)


# State is saved after each of the base's 2 epochs (saves 1, 2) and, per round, after pruning and each of 2 epochs
# (saves 3, 4, 5 in round 1; 6, 7, 8 in round 2).
@pytest.mark.parametrize("after", [True, False], ids=["after the save", "before the save"])
@pytest.mark.parametrize("save", [1, 2, 3, 4, 5, 6, 7, 8])
def test_killed_and_resumed_equals_undisturbed(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: int, after: bool
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(save, patch, after)
        record_all(trial(), tmp_path)
    record_all(trial(), tmp_path)
    same_ledgers(undisturbed, tmp_path)
    same_rows(*(pd.read_parquet(root / f"bases/{trial().base_id}/rounds.parquet") for root in (undisturbed, tmp_path)))


@pytest.mark.parametrize("table", ["predictions", "evidence", "channels", "rounds"])
def test_killed_between_the_tables_of_a_round(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """Killed just before one of the tables of round 1 is written: the round is done again, nothing is doubled."""
    from scp_ray.ledger import ledger as module

    original = module.replace_rounds

    def dying(path: Path, rows: Any, rounds: Any) -> None:
        if path.parent.name == table and rounds == [1]:
            raise Killed
        original(path, rows, rounds)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "replace_rounds", dying)
        record_all(trial(), tmp_path)
    record_all(trial(), tmp_path)
    same_ledgers(undisturbed, tmp_path)


def test_resuming_does_not_train_again_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the first epoch of round 2 (save 7), a resumed trial has one epoch left to train."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(7, patch)
        record_all(trial(), tmp_path)
    trained: list[int] = []
    original = record.run_trial

    def counting(*arguments: Any, **named: Any) -> Iterator[Step | Result]:
        for event in original(*arguments, **named):
            if isinstance(event, Step):
                trained.append(event.epoch)
            yield event

    monkeypatch.setattr(record, "run_trial", counting)
    record_all(trial(), tmp_path)
    assert trained == [2]


def test_more_rounds_continue_the_same_trial(undisturbed: Path, tmp_path: Path) -> None:
    """One round, then two: the same trial, the same numbers as two at once, and round 1 is not run again."""
    ledger = record_all(trial(rounds=1), tmp_path)
    before = ledger.rounds(trial().trial_id)[1]["time"]
    record_all(trial(), tmp_path)
    assert trial(rounds=1).trial_id == trial().trial_id
    assert ledger.rounds(trial().trial_id)[1]["time"] == before
    same_ledgers(undisturbed, tmp_path)


def test_a_finished_trial_is_told_again_and_left_alone(undisturbed: Path) -> None:
    """As after a worker that died between its last commit and its report: the same rows, no file touched."""
    files = {path: path.read_bytes() for path in undisturbed.rglob("*.parquet")}
    rows = list(record_trial(trial(), Ledger(undisturbed), device=CPU))
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert {path: path.read_bytes() for path in undisturbed.rglob("*.parquet")} == files
    config = trial().bases()[trial().base_id]
    assert record_base(config, Ledger(undisturbed), device=CPU)["time"] == rows[0]["time"]
    assert {path: path.read_bytes() for path in undisturbed.rglob("*.parquet")} == files


def test_what_a_search_has_stopped_goes_on_where_it_is_asked_for_as_a_whole(undisturbed: Path, tmp_path: Path) -> None:
    """To the search it is done; to whoever asks for both rounds one is left, and then no mark tells of the stop."""
    wanted, ledger = trial(), Ledger(tmp_path)
    (config,) = wanted.bases().values()
    record_base(config, ledger, device=CPU, checkpoint_s=0)
    rows = record_trial(wanted, ledger, device=CPU, checkpoint_s=0)
    assert [next(rows)["round"], next(rows)["round"]] == [0, 1]
    rows.close()
    stopped = ledger.stop_trial(wanted.trial_id, "place 4 of 4")
    assert stopped["stopped"]
    assert stopped["stop_reason"].endswith("; asha: place 4 of 4"), "behind what the round itself gave as a reason"
    arm = Arm("one", {}, (wanted,))
    assert not plan_jobs([arm], ledger, searching=True).to_do
    (job,) = plan_jobs([arm], ledger).to_do
    assert (job.id, job.rounds_done) == (wanted.trial_id, 1)
    again = list(record_trial(wanted, ledger, device=CPU, checkpoint_s=0))
    assert [row["stopped"] for row in again] == [False, False, False]
    same_ledgers(undisturbed, tmp_path)
    assert not plan_jobs([arm], ledger).to_do
