"""A small sweep as a person runs it: its space file, its command, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from miniature import SPACE

SWEEP = SPACE | {"grid": {"pr_c": [0.1, 0.2]}, "seeds": [0, 1]}


def space_file(folder: Path, **changes: Any) -> Path:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(SWEEP | changes))
    return path


def command(space: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(space), "--out", str(out), *more]


def run(space: Path, out: Path, *more: str, expect: int = 0) -> dict[str, Any]:
    answer = subprocess.run(command(space, out, "--json", *more), capture_output=True, text=True, timeout=300)
    assert answer.returncode == expect, answer.stderr
    summary: dict[str, Any] = json.loads(answer.stdout)
    return summary | {"stderr": answer.stderr}
