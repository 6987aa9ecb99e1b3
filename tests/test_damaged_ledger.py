"""Every kind of file of a sweep's folder, damaged: made anew where it can be, else named with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import SPACE, same_ledgers

from scp_ray.cli.main import main
from scp_ray.config import SweepConfig
from scp_ray.errors import LedgerError
from scp_ray.ledger import Ledger
from scp_ray.ledger.states import States
from scp_ray.tune.space import Plan, plan_jobs


def arms() -> list[Any]:
    return SweepConfig.from_dict(SPACE).resolved_arms()


def plan(root: Path) -> Plan:
    return plan_jobs(arms(), Ledger(root))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trial of two rounds, by the command."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    assert main(["trial", str(folder / "space.yaml"), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def trial_id() -> str:
    return str(arms()[0].trials[0].trial_id)


def base_id() -> str:
    return str(arms()[0].trials[0].base_id)


def again(folder: Path) -> int:
    return main(["trial", str(folder / "space.yaml"), "--out", str(folder)])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"\xffPAR1 not any more")


DAMAGES = [cut, empty, garble]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["rounds", "channels", "predictions"])
def test_a_table_of_a_trial_is_named_and_what_is_advised_helps(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str], kind: str, damage: Callable[[Path], None]
) -> None:
    """Planning stops at it; its rounds table deleted, as the error says, the trial is run again to the same ledger."""
    root = copy / "miniature"
    path, rounds = (root / each / f"{trial_id()}.parquet" for each in (kind, "rounds"))
    damage(path)
    with pytest.raises(LedgerError) as caught:
        plan(root)
    assert str(path) in str(caught.value)
    assert f"Delete {'it' if kind == 'rounds' else rounds}; running the sweep again" in str(caught.value)
    if kind == "rounds":
        for command in ("status", "report", "track"):
            capsys.readouterr()
            assert main([command, str(root)]) == 2
            told = capsys.readouterr().err
            assert str(path) in told and "Delete it" in told and "Traceback" not in told
    rounds.unlink()
    assert again(copy) == 0
    same_ledgers(finished / "miniature", root)


@pytest.mark.parametrize("kind", ["channels", "predictions"])
def test_a_table_that_is_gone_is_noticed(copy: Path, kind: str) -> None:
    (copy / "miniature" / kind / f"{trial_id()}.parquet").unlink()
    with pytest.raises(LedgerError, match=rf"{kind}/{trial_id()}\.parquet.*Delete .*rounds"):
        plan(copy / "miniature")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["rounds.parquet", "predictions.parquet", "model.safetensors"])
def test_a_file_of_a_base_model_is_named_and_what_is_advised_helps(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    """Its folder deleted, as the error says, it is trained anew, and a trial of it starts from the same weights."""
    root = copy / "miniature"
    folder = root / "bases" / base_id()
    damage(folder / name)
    (root / "rounds" / f"{trial_id()}.parquet").unlink()  # there is work to do for which the base is needed
    capsys.readouterr()
    assert again(copy) == 2
    told = capsys.readouterr().err
    assert str(folder / name) in told and "Traceback" not in told
    assert f"Delete {folder}" in told or "Delete its folder" in told
    shutil.rmtree(folder)
    assert again(copy) == 0
    same_ledgers(finished / "miniature", root)


@pytest.mark.parametrize("damage", DAMAGES)
def test_first_scores_are_made_anew(finished: Path, copy: Path, damage: Callable[[Path], None]) -> None:
    root = copy / "miniature"
    (scores,) = (root / "bases" / base_id() / "scores").glob("*.parquet")
    whole = scores.read_bytes()
    damage(scores)
    shutil.rmtree(root / "state")
    (root / "rounds" / f"{trial_id()}.parquet").unlink()
    assert again(copy) == 0
    same_ledgers(finished / "miniature", root)
    assert scores.read_bytes() == whole


@pytest.mark.parametrize("damage", DAMAGES)
def test_both_generations_of_a_state(finished: Path, copy: Path, damage: Callable[[Path], None]) -> None:
    """A trial with one of two rounds done: without a state it is run again from its base, to the same rows."""
    root = copy / "miniature"
    import pyarrow.parquet as pq

    for kind in ("rounds", "channels", "predictions"):
        path = root / kind / f"{trial_id()}.parquet"
        rows = pq.read_table(path).to_pandas()
        rows[rows["round"] < 2].to_parquet(path)
    states = States(root / "state" / trial_id())
    state = states.load()
    assert state is not None
    states.save(state)
    files = sorted((root / "state" / trial_id()).glob("*.state"))
    assert len(files) == 2
    for path in files:
        damage(path)
    assert again(copy) == 0
    for kind in ("rounds", "channels", "predictions"):
        assert set(pq.read_table(root / kind / f"{trial_id()}.parquet")["round"].to_pylist()) >= {1, 2}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 99, "arms": []}', b'{"format": 1}', b"\xff"])
@pytest.mark.parametrize("command", ["status", "report", "track", "trial"])
def test_sweep_json(copy: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes) -> None:
    """It alone knows earlier arms and how often test numbers were shown: never written over, named with what to do."""
    path = copy / "miniature" / "sweep.json"
    path.write_bytes(content)
    capsys.readouterr()
    code = again(copy) if command == "trial" else main([command, str(copy / "miniature")])
    told = capsys.readouterr().err
    assert code == 2
    assert str(path) in told and "delete it and run the sweep's commands again" in told and "Traceback" not in told
    assert path.read_bytes() == content
    path.unlink()
    assert again(copy) == 0
    assert json.loads(path.read_text())["arms"][0]["trials"][0]["trial_id"] == trial_id()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"host": "x", "pid": "y", "token": "z", "heartbeat": "w"}', b"\xff"]
)
def test_driver_json_that_says_nothing_is_nobodys(copy: Path, content: bytes) -> None:
    path = copy / "miniature" / "driver.json"
    path.write_bytes(content)
    assert main(["status", str(copy / "miniature")]) == 0
    assert again(copy) == 0
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_note_of_a_failure_is_a_failure_that_is_tried_again(
    copy: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    root = copy / "miniature"
    (root / "rounds" / f"{trial_id()}.parquet").unlink()
    (root / "failures").mkdir(exist_ok=True)
    note = root / "failures" / f"{trial_id()}.json"
    note.write_bytes(content)
    assert main(["status", str(root)]) == 1
    assert trial_id() in capsys.readouterr().out
    assert [job.id for job in plan(root).to_do] == [trial_id()]
    assert plan(root).failed == ()


@pytest.mark.parametrize(("kind", "tried"), [("WorkerLost", True), ("BaseFailed", True), ("DivergedError", False)])
def test_only_what_would_fail_again_waits_to_be_asked_for(copy: Path, kind: str, tried: bool) -> None:
    """A worker that was lost says nothing of its trial: the next run of the command tries it."""
    root = copy / "miniature"
    (root / "rounds" / f"{trial_id()}.parquet").unlink()
    Ledger(root).record_failure(trial_id(), {"label": "x", "kind": kind, "reason": "y", "traceback": "", "rerun": "z"})
    assert ([job.id for job in plan(root).to_do] == [trial_id()]) is tried
    assert ([job.id for job in plan(root).failed] == [trial_id()]) is not tried


def test_what_needs_a_broken_base_model_waits_with_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    failure = {"label": "x", "reason": "y", "traceback": "", "rerun": "z"}
    ledger.record_failure(base_id(), failure | {"kind": "DivergedError"})
    ledger.record_failure(trial_id(), failure | {"kind": "BaseFailed"})
    assert plan(tmp_path).to_do == ()
    assert {job.id for job in plan(tmp_path).failed} == {base_id(), trial_id()}


def test_the_models_of_trials_are_not_read_by_any_of_these_commands(copy: Path) -> None:
    for path in (copy / "miniature" / "models").rglob("*.*"):
        empty(path)
    assert main(["status", str(copy / "miniature")]) == 0
    assert main(["report", str(copy / "miniature")]) == 0
    assert again(copy) == 0


def test_other_versions_resume_and_other_torches_are_pointed_out(
    copy: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """sweep.json of older packages, a trial that lost its rounds: it goes on, and says whose numbers may differ."""
    root = copy / "miniature"
    definition = json.loads((root / "sweep.json").read_text())
    definition["versions"] |= {"torch": "1.0", "ray": "1.0", "optuna": "1.0", "mlflow": "1.0", "pyarrow": "1.0"}
    (root / "sweep.json").write_text(json.dumps(definition))
    (root / "rounds" / f"{trial_id()}.parquet").unlink()
    capsys.readouterr()
    assert again(copy) == 0
    told = capsys.readouterr().err
    assert f"torch 1.0 (now {version('torch')})" in told and "bit for bit" in told
    assert "ray 1.0" not in told and "mlflow 1.0" not in told, "nothing in the folder is of their formats"
    same_ledgers(finished / "miniature", root)
    capsys.readouterr()
    assert again(copy) == 0
    assert "bit for bit" not in capsys.readouterr().err
