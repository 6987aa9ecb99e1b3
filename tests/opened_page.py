"""A report's page that is open in a browser, with all that it said and asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

REPAIRED = "pr_c=0.2, layer=-1"  # the planted arm whose gap was repaired


class Opened:
    """A page that is ready, with all that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):  # drawn before the load event, which goto waits for
            assert self.page.evaluate("document.documentElement.dataset.ready")
