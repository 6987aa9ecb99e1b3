"""Text as HTML: whatever comes from a sweep is escaped here and nowhere else."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

SIGNIFICANT = 6  # digits of an embedded number; four places of a metric are shown


def esc(text: object) -> str:
    """As text between tags or in a quoted attribute."""
    return html.escape(str(text), quote=True)


def tag(name: str, content: str = "", **attributes: object) -> str:
    """``content`` is HTML already, attributes are text; ``class_`` loses its underscore, inside names it is a '-'."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{esc(value)}"' for key, value in attributes.items() if value is not None
    )
    return f"<{name}{told}>{content}</{name}>"


def paragraph(text: str, **attributes: object) -> str:
    """Escapes."""
    return tag("p", esc(text), **attributes)


def command_line(text: str) -> str:
    """A command with a button that copies it."""
    button = tag("button", "Copy", type="button", class_="copy", hidden="hidden", aria_label=f"Copy the command {text}")
    return tag("div", tag("code", esc(text)) + button, class_="command")


def block(text: str, label: str) -> str:
    """Lines to be copied, such as YAML; it scrolls sideways, so it can be reached by keyboard."""
    button = tag("button", "Copy", type="button", class_="copy", hidden="hidden", aria_label=f"Copy {label}")
    inside = tag("pre", tag("code", esc(text)), tabindex="0", role="region", aria_label=label)
    return tag("div", inside + button, class_="block")


def definitions(rows: Mapping[str, object]) -> str:
    """Names and values beside each other."""
    return tag(
        "dl", "".join(tag("dt", esc(key)) + tag("dd", esc(value)) for key, value in rows.items()), class_="facts"
    )


def listed(texts: Iterable[str]) -> str:
    """Escapes each."""
    return tag("ul", "".join(tag("li", esc(text)) for text in texts))


def json_script(content: Mapping[str, Any], identifier: str) -> str:
    """Data that a script reads and nothing can break out of: no '<' is left in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return tag("script", text, type="application/json", id=identifier)


def plain(value: Any) -> Any:
    """A cell as JSON has it: None where it is undefined, floats to six significant digits."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        if not math.isfinite(number):
            return None
        rounded = float(f"{number:.{SIGNIFICANT}g}")
        return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(str(part) for part in value)
    return str(value)


def columnar(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A list per column."""
    return {str(name): [plain(value) for value in frame[name].tolist()] for name in frame.columns}
