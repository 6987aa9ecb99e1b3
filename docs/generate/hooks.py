"""What mkdocs asks while it builds the site: the generated page, and links that leave docs/."""

from __future__ import annotations

import re
from typing import Any

from commands import commands_page
from mkdocs.structure.files import File, Files

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the command reference, which lies in no file of its own."""
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The repository is not part of the site: a link to a file of it becomes that file's path."""
    return _OUTSIDE.sub(r"`\2`", markdown)
