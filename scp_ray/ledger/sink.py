"""Who else wants to hear of a sweep: a tracker, a console."""

from __future__ import annotations

from typing import Any, Protocol


class Sink(Protocol):
    """Gets what the ledger has already committed. It may be slow or fail; the sweep does neither because of it.

    Rows are those of the ledger's rounds tables: a base model's have an empty ``trial_id``.
    """

    def open(self, sweep: dict[str, Any]) -> None:
        """A sweep begins or goes on; ``sweep`` is its sweep.json."""

    def grown(self, sweep: dict[str, Any]) -> None:
        """A search has added an arm or a seed, or knows more of one; ``sweep`` is sweep.json as it is now."""

    def round(self, row: dict[str, Any]) -> None:
        """A round was committed; may come again with the same content."""

    def failed(self, failure: dict[str, Any]) -> None:
        """A trial or base model failed."""

    def close(self) -> None:
        """Nothing more comes; finish what is pending."""
