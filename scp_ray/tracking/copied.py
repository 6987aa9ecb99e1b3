"""A tracker's database where DIR cannot hold a live one: it lies on this machine, and DIR gets copies."""

from __future__ import annotations

from typing import Any

from scp_ray.ledger import Ledger, Sink
from scp_ray.ledger.live import LiveDatabase


class Copied:
    """A Sink that has a copy made after whatever it has told to another."""

    def __init__(self, sink: Sink, database: LiveDatabase) -> None:
        self._sink, self._database = sink, database

    def open(self, sweep: dict[str, Any]) -> None:
        """Fetch DIR's copy first: runs keep their ids, whichever machine drives the sweep."""
        self._database.open()
        self._sink.open(sweep)
        self._database.changed()

    def round(self, row: dict[str, Any]) -> None:
        """Tell, then copy."""
        self._sink.round(row)
        self._database.changed()

    def failed(self, failure: dict[str, Any]) -> None:
        """Tell, then copy."""
        self._sink.failed(failure)
        self._database.changed()

    def close(self) -> None:
        """Tell, then wait for the last copy."""
        self._sink.close()
        self._database.close()


def with_copies(sink: Sink, uri: str, ledger: Ledger) -> Sink:
    """``sink`` itself, unless ``uri`` is a database that stands in for DIR/mlflow.db."""
    target = ledger.root / "mlflow.db"
    if uri == f"sqlite:///{target}" or not uri.startswith("sqlite:"):
        return sink
    database = LiveDatabase(ledger, "mlflow.db")
    return Copied(sink, database) if uri == f"sqlite:///{database.path}" else sink
