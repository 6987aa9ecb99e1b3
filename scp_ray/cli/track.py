"""Fill MLflow from a sweep's ledger. What is already there is left as it is, so it may be run again."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray track``."""
    parser.add_argument("dir", metavar="DIR", help="a sweep's folder")


def run(options: argparse.Namespace) -> int:
    """Bring the tracker to what the ledger holds, as the sweep's only driver: a running one tells it by itself."""
    from scp_ray.ledger import load_sweep
    from scp_ray.ledger.lease import lease_on
    from scp_ray.tracking.replay import replay
    from scp_ray.tracking.secrets import redacted
    from scp_ray.tracking.where import tracking_uri

    sweep = load_sweep(options.dir)
    root = sweep.ledger.root
    uri = tracking_uri(root)
    remedy = f"Filling MLflow takes the sweep as a driver does: scp-ray track a copy of {root} that may be written to."
    with lease_on(sweep.ledger.driver, remedy=remedy) as lease:
        sweep.ledger.token = lease.token
        count = replay(sweep, uri)
    address = redacted(uri)
    look = (
        address if uri.startswith(("http:", "https:")) else f"mlflow ui --host 127.0.0.1 --backend-store-uri {address}"
    )
    print(f"{count} rows of {root} are in MLflow. Look: {look}", file=sys.stderr)
    return 0
