"""The command line itself: help, names, refusals, exit codes, dry runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from asking import MINIATURE, ask

from scp_ray.cli import ls
from scp_ray.cli.main import main
from scp_ray.errors import DivergedError, ResourceError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def miniature(tmp_path):
    path = tmp_path / "miniature.yaml"
    path.write_text(MINIATURE)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- help, names and exit codes ---------------------------------------------------------------------------------------


def test_help_lists_every_command_with_what_it_does():
    answer = ask("--help")
    assert (answer.code, answer.err) == (0, "")
    for command in ("sweep", "trial", "status", "report", "compare", "track", "ls"):
        assert [line for line in answer.out.splitlines() if line.startswith(f"    {command} ")], command


@pytest.mark.parametrize("command", ["sweep", "trial", "status", "report", "compare", "track", "ls"])
def test_every_command_explains_itself(command):
    answer = ask(command, "--help")
    assert answer.code == 0
    assert f"usage: scp-ray {command}" in answer.out


@pytest.mark.parametrize("arguments", [(), ("swep", "quickstart"), ("sweep",), ("ls", "criterias")])
def test_a_command_line_that_asks_for_nothing_known_is_refused(arguments):
    answer = ask(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "usage: scp-ray" in answer.err


def test_the_version_is_the_packages():
    assert ask("--version").out == "scp-ray 0.1.0\n"


def test_the_module_runs_as_a_command():
    command = [sys.executable, "-m", "scp_ray.cli.main", "ls", "methods"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "vanilla" in run.stdout.splitlines()


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (ResourceError("no node holds it"), 3, "scp-ray: no node holds it"),
        (DivergedError("the loss became nan"), 1, "scp-ray: the loss became nan"),
        (KeyboardInterrupt(), 75, "run the same command again"),
    ],
)
def test_what_goes_wrong_decides_the_exit_code(monkeypatch, raised, code, words):
    def run(_: Any) -> int:
        raise raised

    monkeypatch.setattr(ls, "run", run)
    answer = ask("ls")
    assert (answer.code, answer.out) == (code, "")
    assert words in answer.err


# -- ls ---------------------------------------------------------------------------------------------------------------


def test_ls_prints_one_name_a_line_where_stdout_is_no_terminal():
    names = ask("ls", "criteria").out.splitlines()
    assert {"magnitude", "none", "random", "snnl", "snnl-released"} <= set(names)
    assert names == sorted(set(names))
    assert all(len(name.split()) == 1 for name in names)


@pytest.mark.parametrize(
    ("room", "some"),
    [
        ("spaces", {"fig2a-pruning-ratio", "fig2b-layer", "isic2019-mini", "quickstart"}),
        ("methods", {"vanilla"}),
        ("datasets", {"synthetic"}),
        ("backbones", {"resnet18", "tiny", "vgg11"}),
    ],
)
def test_ls_knows_every_room(room, some):
    assert some <= set(ask("ls", room).out.splitlines())


def test_ls_of_everything_says_the_room_of_each_name():
    lines = ask("ls").out.splitlines()
    assert {"criteria snnl", "backbones tiny", "datasets synthetic", "methods vanilla", "spaces quickstart"} <= set(
        lines
    )
    assert all(len(line.split()) == 2 for line in lines)


def test_ls_on_a_terminal_says_what_each_one_is(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["ls", "criteria"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "criteria"
    assert any(line.startswith("  magnitude ") and "absolute weights" in line for line in lines)


# -- requests that are refused ----------------------------------------------------------------------------------------


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


def test_json_is_one_object_for_what_nobody_has_foreseen(tmp_path):
    """Told in full on stderr, with an exit code of its own."""
    code = """
import sys
from scp_ray.cli import main, status
def run(options):
    raise ZeroDivisionError("of a test")
status.run = run
sys.exit(main.command())
"""
    run = subprocess.run([sys.executable, "-c", code, "status", ".", "--json"], capture_output=True, text=True)
    assert run.returncode == 70
    assert json.loads(run.stdout) == {"error": "ZeroDivisionError", "faults": ["of a test"]}
    assert run.stderr.startswith("Traceback") and run.stderr.endswith("ZeroDivisionError: of a test\n")


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


# -- what would run ---------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_and_writes_nothing(miniature, tmp_path):
    grid = "grid={pr_c: [0.05, 0.2], layer: [-1, -2]}"
    options = ("--set", grid, "--set", "seeds=[0, 1]", "--out", tmp_path / "results", "--dry-run", "--json")
    answer = ask("sweep", miniature, *options)
    assert answer.code == 0
    plan = answer.json
    assert (len(set(plan["to_do"]["bases"])), len(set(plan["to_do"]["trials"]))) == (2, 8)
    assert (plan["already_done"], plan["failed_before"]) == (0, [])
    assert plan["sweep"] == str(tmp_path / "results" / "miniature")
    assert "4 arms x 2 seeds; 8 trials and 2 base models to run" in answer.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["miniature.yaml"]


def test_a_dry_run_counts_shared_trials_once(miniature, tmp_path):
    """Layers -1 and 8 of 8 are one layer, so two of four arms are the other two."""
    grid = "grid={pr_c: [0.05, 0.2], layer: [-1, 8]}"
    options = ("--set", grid, "--set", "seeds=[0, 1]", "--out", tmp_path / "results", "--dry-run", "--json")
    answer = ask("sweep", miniature, *options)
    assert (len(answer.json["to_do"]["bases"]), len(answer.json["to_do"]["trials"])) == (2, 4)
    assert "4 arms x 2 seeds; 4 trials and 2 base models to run; 2 arms resolve to a trial of another arm" in answer.err


@pytest.mark.parametrize(("signalled", "code"), [(True, 75), (False, 70)])
def test_a_library_that_a_signal_has_left_broken_is_not_told_as_a_fault(monkeypatch, capsys, signalled, code):
    """torch clears what a signal raises within its import of numpy, which then is half there."""
    from scp_ray import signals
    from scp_ray.cli import main as module

    def broken() -> int:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(module, "main", broken)
    monkeypatch.setattr(signals, "received", lambda: signalled)
    assert module._main() == code
    told = capsys.readouterr().err
    assert ("run the same command again" in told, "RecursionError" in told) == (signalled, not signalled)
