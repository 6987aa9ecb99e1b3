"""A page taken apart by the standard library's parser."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, text by enclosing element, and the data that the page carries."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []  # innermost element's name, text
        self.sections: dict[str, str] = {}  # text by id of the section
        self._open: list[tuple[str, dict[str, str]]] = []
        self.data: dict[str, Any] = {}
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        name, _ = self._open.pop()
        assert name == tag, f"</{tag}> closes <{name}>"

    def handle_data(self, data: str) -> None:
        if not self._open:
            return
        tag, attributes = self._open[-1]
        if tag == "script" and attributes.get("type") == "application/json":
            self.data = json.loads(data)
        if tag in ("script", "style"):
            return
        self.texts.append((tag, data))
        for name, found in self._open:
            if name == "section":
                self.sections[found["id"]] = self.sections.get(found["id"], "") + data

    def named(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of that name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def cells(self, table: str) -> list[list[Any]]:
        """The rows that a table holds, from the page's data."""
        return [list(row) for row in zip(*self.data["tables"][table]["cells"], strict=True)]

    def heads(self, table: str) -> list[str]:
        """Its columns' titles."""
        return [column["title"] for column in self.data["tables"][table]["columns"]]
