"""A sweep by its folder, or by what MLflow holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scp_ray import ledger
from scp_ray.places import AnyPath

if TYPE_CHECKING:
    from scp_ray.tracking.reading import TrackedSweep

MLFLOW = "mlflow+"


def load_sweep(path: str | AnyPath) -> ledger.Sweep | TrackedSweep:
    """The sweep in a folder, or in the only sweep folder inside it; a path or a URI such as s3://bucket/prefix.

    ``mlflow+<uri>#<experiment>`` reads its rounds from MLflow alone: ``.rounds`` and ``.trials`` with the ledger's
    numbers, as far as MLflow holds them. Anything else of such a sweep raises TrackingError.

    Raises LedgerError or TrackingError where there is none, or several.
    """
    if isinstance(path, str) and path.startswith(MLFLOW):
        from scp_ray.tracking.reading import load_tracked

        return load_tracked(path)
    return ledger.load_sweep(path)
