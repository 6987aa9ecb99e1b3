"""Which tracker a sweep has."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from scp_ray.ledger.live import LiveDatabase, live_path
from scp_ray.ledger.records import Records
from scp_ray.places import AnyPath
from scp_ray.tracking.background import Tracker
from scp_ray.tracking.copied import stand_in, with_copies


def tracking_uri(root: AnyPath) -> str:
    """MLFLOW_TRACKING_URI where it is set, else an SQLite file in the sweep's folder or in place of it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{live_path(root, 'mlflow.db')}"


def trackers(ledger: Records) -> Callable[[], Tracker]:
    """Makes a tracker, and another one after each error; all of one database, where that stands in for DIR's."""

    @functools.cache
    def place() -> tuple[str, LiveDatabase | None]:
        uri = tracking_uri(ledger.root)
        return uri, stand_in(uri, ledger)

    def make() -> Tracker:
        from scp_ray.tracking.mlflow import MLflowRuns

        uri, database = place()
        return with_copies(MLflowRuns(uri, ledger.root), database)

    return make
