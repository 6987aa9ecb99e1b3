"""Every command, option, file and Python line that the documentation names is there, and the site builds."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from asking import ask
from documents import DOCS, PAGES, ROOT, blocks, commands, generator

from scp_ray.config import SweepConfig, read_space

PARSERS = generator("commands").parsers()
ALL = ["README.md", "CONTRIBUTING.md", *PAGES]
# set-up and other people's programs: nothing of ours to be wrong about but what their lines name of ours
OTHERS = {"source", "export", "pip", "mlflow", "git", "ls"}


def program_of(words: list[str]) -> tuple[str, list[str]]:
    """The command by its name, "sweep" or "data check", and what it is given."""
    two = " ".join(words[1:3])
    return (two, words[3:]) if two in PARSERS else (words[1], words[2:])


@pytest.mark.parametrize("page", ALL)
def test_every_command_of_a_block_is_accepted(page: str) -> None:
    for block in blocks(page):
        for words in commands(block.text) if block.language == "bash" else ():
            if words[0] == "scp-ray":
                name, given = program_of(words)
                said = io.StringIO()
                try:
                    with contextlib.redirect_stderr(said):
                        PARSERS[name].parse_args(given)
                except SystemExit:
                    pytest.fail(f"{page}: {' '.join(words)}: {said.getvalue()}")
            elif words[:2] == ["python", "-m"]:
                check_module(words[2:])
            elif words[0] == "make":
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
            else:
                assert words[0] in OTHERS, f"{page}: {' '.join(words)}"


def check_module(words: list[str]) -> None:
    if words[0] == "pytest":
        assert all((ROOT / word).is_file() for word in words if word.startswith("tests/")), words
    else:
        assert words[0].startswith("benchmarks."), words
        assert (ROOT / f"{words[0].replace('.', '/')}.py").is_file(), words


@pytest.mark.parametrize("page", ALL)
def test_every_command_in_the_text_has_the_options_that_it_is_given(page: str) -> None:
    """In the text a command may lack its arguments; a name or an option that is not there is wrong all the same."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", text):
        words = re.sub(r"\s+", " ", code).split()
        if words[:1] == ["scp-ray"] and len(words) > 1 and words[1].islower() and words[1] != "--help":
            names = [name for name in PARSERS if name == words[1] or name.startswith(f"{words[1]} ")]
            assert names, f"{page}: {code}"
            known = {option for name in names for option in PARSERS[name]._option_string_actions}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, f"{page}: {code}"
        elif words[:2] == ["python", "-m"]:
            check_module(words[2:])


@pytest.mark.parametrize("page", ALL)
def test_every_whole_space_is_read(page: str, tmp_path: Path) -> None:
    """With each of its profiles; only the data, which is not here, is replaced by drawn ones."""
    for block in blocks(page):
        if block.language == "yaml" and re.search(r"^trial:", block.text, re.MULTILINE):
            (tmp_path / "space.yaml").write_text(block.text, encoding="utf-8")
            for profile in (None, *yaml.safe_load(block.text).get("profiles", {})):
                raw = read_space(str(tmp_path / "space.yaml"), profile=profile)
                raw["trial"]["dataset"] = "synthetic"
                if "worst-group" not in block.text and "group-means" not in block.text:  # plug-ins of that page
                    assert SweepConfig.from_dict(raw).resolved_arms()


def test_the_python_of_the_backbones_page_says_what_it_says() -> None:
    """159,... is printed by nobody: where a comment shows an output, it is the last line that was printed."""
    names: dict[str, object] = {}
    shown = []
    for block in blocks("docs/backbones.md"):
        if block.language == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(compile(block.text, "docs/backbones.md", "exec"), names)
            shown += [(line, said.getvalue()) for line in re.findall(r"^# (.*)$", block.text, re.MULTILINE)]
    assert [(said.splitlines()[-1], line) for line, said in shown] == [(line, line) for line, _ in shown]
    assert len(shown) == 1


@pytest.mark.parametrize("page", PAGES)
def test_links_into_the_repository_meet_a_file(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(\.\./([^)#]+)\)", text):
        assert (ROOT / target).exists(), f"{page}: {target}"


def test_the_command_reference_has_every_option_that_help_tells() -> None:
    """Help comes from the program itself, and is read here as text."""
    page = generator("commands").commands_page()
    told = re.findall(r"^    ([a-z]+) ", ask("--help").out, re.MULTILINE)
    assert {"sweep", "report", "data"} <= set(told)
    for command in told:
        if command == "data":
            continue
        found = re.search(rf"^## scp-ray {command}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
        assert found, command
        options = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", ask(command, "--help").out, re.MULTILINE)) - {"--help"}
        assert options <= set(re.findall(r"^\| `(--[a-z-]+)", found[1], re.MULTILINE)), command
    for action in ("check", "build", "show"):
        assert f"### scp-ray data {action}" in page


def test_the_page_of_spaces_has_fields_and_files() -> None:
    """Field, what is allowed, default and comment, as they stand in the classes; each shipped file whole."""
    page = generator("spaces").spaces_page()
    row = "| `pr_c` | a number > 0 and &lt; 1 | none | share of the layer's original channels pruned per round |"
    assert row in page
    assert "| `mfd` | `weight`: a number >= 0 (`5.0`)<br>" in page
    files = sorted((ROOT / "search_spaces").glob("*.yaml"))
    assert files
    assert all(f"```yaml\n{file.read_text(encoding='utf-8')}```" in page for file in files)


def test_the_site_builds_without_a_warning_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install 'scp_ray[docs]'")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    pages = {path.name for path in (tmp_path / "site").glob("*.html")} - {"404.html"}
    assert pages == {f"{path.stem}.html" for path in DOCS.glob("*.md")} | {"commands.html", "spaces.html"}
    for path in (tmp_path / "site").rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|link|iframe|source)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>", html)
        assert fetched == [], path.name
        assert 'class="highlight"' not in html or "<code>" in html
    assert "../deploy" not in (tmp_path / "site" / "clusters.html").read_text(encoding="utf-8")
