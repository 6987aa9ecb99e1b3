"""What mkdocs asks while it builds the site: the generated pages, and links that leave docs/."""

from __future__ import annotations

import re
from typing import Any

from commands import commands_page
from mkdocs.structure.files import File, Files
from spaces import spaces_page

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie in no file of their own."""
    for name, content in {"commands.md": commands_page(), "spaces.md": spaces_page()}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The repository is not part of the site: a link to a file of it becomes that file's path."""
    return _OUTSIDE.sub(r"`\2`", markdown)
