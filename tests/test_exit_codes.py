"""How the command ends: exit codes of what goes wrong, is not foreseen, or is signalled."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from asking import ask

from scp_ray import signals
from scp_ray.cli import ls
from scp_ray.cli import main as module
from scp_ray.errors import DivergedError, ResourceError
from scp_ray.tune.beside import keep_signals


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


@pytest.mark.parametrize(("signalled", "code"), [(True, 75), (False, 70)])
def test_a_library_that_a_signal_has_left_broken_is_not_told_as_a_fault(monkeypatch, capsys, signalled, code):
    """torch clears what a signal raises within its import of numpy, which then is half there."""

    def broken() -> int:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(module, "main", broken)
    monkeypatch.setattr(signals, "received", lambda: signalled)
    assert module._main() == code
    told = capsys.readouterr().err
    assert ("run the same command again" in told, "RecursionError" in told) == (signalled, not signalled)


def test_a_signal_that_a_library_has_caught_is_heard_before_ray_is_waited_for(monkeypatch):
    monkeypatch.setattr(signals, "received", lambda: True)
    with pytest.raises(signals.Stopped):
        keep_signals(lambda: False)
