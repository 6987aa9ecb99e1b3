"""The command line itself: help, names, dry runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from asking import MINIATURE, ask

from scp_ray.cli.main import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def miniature(tmp_path):
    path = tmp_path / "miniature.yaml"
    path.write_text(MINIATURE)
    return path


# -- help and names ---------------------------------------------------------------------------------------------------


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
