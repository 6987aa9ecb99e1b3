"""Requests that are refused: all that is wrong, what to do, and nothing is left behind."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from asking import MINIATURE, ask


@pytest.fixture
def miniature(tmp_path):
    path = tmp_path / "miniature.yaml"
    path.write_text(MINIATURE)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_a_bad_space_is_refused_with_all_its_faults_and_leaves_nothing(tmp_path, command):
    path = tmp_path / "bad.yaml"
    path.write_text(MINIATURE.replace("epochs: 1", "epochs: -1").replace("tiny", "tinny").replace("rounds", "roundz"))
    answer = ask(command, path, "--out", tmp_path / "results")
    assert (answer.code, answer.out) == (2, "")
    for words in ("trial.train.epochs", "trial.fine_tune.epochs", "Did you mean 'tiny'?", "Did you mean 'rounds'?"):
        assert words in answer.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_an_unknown_space_names_the_nearest(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    answer = ask(command, "quickstrat")
    assert (answer.code, answer.out) == (2, "")
    assert "Did you mean 'quickstart'?" in answer.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_json_is_one_object_for_errors_as_well(miniature, command):
    answer = ask(command, miniature, "--set", "trial.rounds=-1", "--set", "seeds=[x]", "--json")
    assert answer.code == 2
    assert set(answer.json) == {"error", "faults"}
    assert answer.json["error"] == "ConfigError"
    assert [fault.partition(":")[0] for fault in answer.json["faults"]] == ["seeds", "trial.rounds"]


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_json_is_one_object_where_the_system_refuses(miniature, command):
    """No file system takes a name of 300 letters."""
    answer = ask(command, miniature, "--out", "x" * 300, "--json")
    assert answer.code == 2
    assert set(answer.json) == {"error", "faults"}
    assert "File name too long" in answer.json["faults"][0]


@pytest.mark.parametrize("command", ["status", "report", "track"])
@pytest.mark.parametrize("folder", [".", "absent"])
def test_a_folder_without_a_sweep_is_refused_with_advice(tmp_path, command, folder):
    answer = ask(command, tmp_path / folder)
    assert (answer.code, answer.out) == (2, "")
    assert "no sweep.json" in answer.err
    assert "Name the folder a sweep printed" in answer.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_without_a_sweep_is_refused_in_json(tmp_path, command):
    answer = ask(command, tmp_path, "--json")
    assert answer.code == 2
    assert answer.json["error"] == "LedgerError"


@pytest.mark.parametrize(
    "words", [("sweep", "quickstart"), ("doctor",), ("score", "quickstart", "--weights", "none.safetensors")]
)
def test_an_empty_address_is_no_local_ray(tmp_path, monkeypatch, words):
    """As a script gives it whose variable is empty."""
    monkeypatch.chdir(tmp_path)
    answer = ask(*words, "--address", "")
    assert answer.code == 2
    assert "--address: got ''; allowed is host:port or auto" in answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [("sweep", "--dry-run"), ("trial",)])
def test_an_address_that_cannot_be_used_is_not_taken_for_a_folder(miniature, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    answer = ask(command[0], miniature, "--out", "nowhere://bucket/sweeps", *command[1:])
    assert (answer.code, answer.out) == (2, "")
    assert "nowhere:// is not known" in answer.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["miniature.yaml"]


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_a_file_in_the_place_of_the_folder_is_named(miniature, tmp_path, command):
    (tmp_path / "results").write_text("a file")
    answer = ask(command, miniature, "--out", tmp_path / "results")
    assert (answer.code, answer.out) == (2, "")
    assert str(tmp_path / "results") in answer.err


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_a_sweep_that_another_driver_holds_is_left_alone(miniature, tmp_path, command):
    driver = tmp_path / "results" / "miniature" / "driver.json"
    driver.parent.mkdir(parents=True)
    driver.write_text(json.dumps({"host": "elsewhere", "pid": 4711, "token": "theirs", "heartbeat": time.time()}))
    before = contents(tmp_path)
    answer = ask(command, miniature, "--out", tmp_path / "results", "--json")
    assert answer.code == 4
    assert answer.json["error"] == "SweepHeldError"
    assert "process 4711 on elsewhere" in answer.err
    assert contents(tmp_path) == before
