"""The pages of docs/, taken apart: their blocks, their commands, and a folder to walk through a page in."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SET_UP = ("source ", "pip ", "make ", "mlflow ui ")
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.glob("*.md"))


class Block(NamedTuple):
    """A fenced block; ``title`` names the file that it is, empty where it is none."""

    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """All of a page, in order; ``page`` is relative to the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', text, flags=re.DOTALL | re.MULTILINE)
    assert text.count("\n```") + text.startswith("```") == 2 * len(found), f"a block of {page} is not of this form"
    return [Block(*parts) for parts in found]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command line of a shell block: comments gone, lines joined, cut at ``&&``."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            yield words[: words.index("&&")]
            words = words[words.index("&&") + 1 :]
        if words:
            yield words


class Reader:
    """Somebody who does in a folder what a page says, block by block."""

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        """``source`` holds the scp_ray that the commands run."""
        self.folder, programs = folder, folder / ".programs"
        programs.mkdir(parents=True)
        start = "import sys; from scp_ray.cli.main import command; sys.exit(command())"
        for name, line in {"scp-ray": f"{sys.executable} -c '{start}'", "python": sys.executable}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
            (programs / name).chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}

    def follow(self, page: str) -> list[str]:
        """Write the files that it shows, run its commands and its Python; what each block said."""
        said = []
        for block in blocks(page):
            if block.title:
                (self.folder / block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "bash":
                said.append(self.run(block.text))
            elif block.language == "python":
                said.append(self._run(["python", "-c", block.text]))
        return said

    def run_all(self, page: str, **names: str) -> list[str]:
        """Run its commands alone, with what its placeholders stand for; what each block said.

        Set-up is left out, and MLflow's own pages, which are served until somebody ends them.
        """
        texts = [block.text for block in blocks(page) if block.language == "bash"]
        kept = ["\n".join(line for line in text.splitlines() if not line.startswith(SET_UP)) for text in texts]
        for name, value in names.items():
            kept = [re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", value, text) for text in kept]
        return [self.run(text) for text in kept if text.strip()]

    def run(self, text: str) -> str:
        """Lines of a shell."""
        return self._run(["bash", "-euc", text])

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"{words[-1]}\nended with {done.returncode}:\n{done.stdout}"
        return done.stdout


def generator(name: str) -> ModuleType:
    """A module of docs/generate, which lies in no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "generate" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
