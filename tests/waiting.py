"""Waiting for what another process or thread does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[Any] | None = None, within_s: float = 120) -> None:
    """Until it holds; fails where it does not in time, or where the process that should bring it has ended."""
    ends = time.monotonic() + within_s
    while not condition():
        assert process is None or process.poll() is None, f"it ended too early: {process.communicate()}"
        assert time.monotonic() < ends, f"what the test waits for did not happen within {within_s:g} s"
        time.sleep(0.01)
