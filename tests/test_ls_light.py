"""``scp-ray ls`` reads names from the files' text; importing the plug-ins has to give the same."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from scp_ray.registry import listed

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("package", "name"),
    [("criteria", "criteria"), ("methods", "methods"), ("backbones", "backbones"), ("data", "datasets")],
)
def test_what_is_listed_is_what_imports_register(package, name):
    registry = getattr(importlib.import_module(f"scp_ray.{package}.base"), name)
    found = listed(f"scp_ray.{package}")
    joined = getattr(registry, "joined", {})
    own = [each for each in registry.names() if each in joined or registry.get(each).__module__.startswith("scp_ray.")]
    assert sorted({*found, *joined}) == own  # other tests may have registered plug-ins of theirs
    assert found == {each: registry.get(each).__doc__.splitlines()[0] for each in found}


def test_ls_imports_no_torch():
    heavy = "sorted({'torch', 'pandas'} & {*sys.modules})"
    code = f"import sys; from scp_ray.cli.main import main; main(['ls']); print({heavy})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert lines[-1] == "[]"
    assert {"criteria snnl", "methods me-fairprune", "backbones torchvision", "spaces quickstart"} <= set(lines)
