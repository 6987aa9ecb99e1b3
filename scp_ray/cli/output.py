"""What --json prints."""

from __future__ import annotations

import json
import math
from typing import Any


def print_json(content: dict[str, Any]) -> None:
    """One JSON object on stdout; an undefined number is null, since JSON knows no NaN."""
    print(json.dumps(_plain(content), allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
