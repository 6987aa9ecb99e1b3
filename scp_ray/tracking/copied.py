"""A tracker's database where DIR cannot hold a live one: it lies on this machine, and DIR gets copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scp_ray.ledger.live import LiveDatabase
from scp_ray.ledger.records import Records, Row
from scp_ray.tracking.background import Tracker


class Copied:
    """A Tracker that has a copy made after whatever it has told to another."""

    def __init__(self, tracker: Tracker, database: LiveDatabase) -> None:
        self._tracker, self._database = tracker, database

    def open(self, sweep: dict[str, Any], *, running: bool) -> None:
        """Fetch DIR's copy first: runs keep their ids, whichever machine drives the sweep. A second open keeps it."""
        self._database.open()
        self._tracker.open(sweep, running=running)
        self._database.changed()

    def know(self, sweep: dict[str, Any]) -> None:
        """Nothing is written: pass it on."""
        self._tracker.know(sweep)

    def show(
        self, job_id: str, rows: Sequence[Row], failure: Mapping[str, Any] | None = None, *, running: bool
    ) -> bool:
        """Tell, then copy."""
        ended = self._tracker.show(job_id, rows, failure, running=running)
        self._database.changed()
        return ended

    def close(self) -> None:
        """Tell, then wait for the last copy."""
        self._tracker.close()
        self._database.close()


def stand_in(uri: str, ledger: Records) -> LiveDatabase | None:
    """The database that stands in for DIR/mlflow.db, where ``uri`` names it: one for all trackers of a sweep."""
    target = ledger.root / "mlflow.db"
    if uri == f"sqlite:///{target}" or not uri.startswith("sqlite:"):
        return None
    database = LiveDatabase(ledger, "mlflow.db")
    return database if uri == f"sqlite:///{database.path}" else None


def with_copies(tracker: Tracker, database: LiveDatabase | None) -> Tracker:
    """``tracker``, which writes to that ``stand_in``, with copies made of it."""
    return tracker if database is None else Copied(tracker, database)
