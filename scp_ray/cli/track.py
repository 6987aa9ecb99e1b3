"""Fill MLflow from a sweep's ledger: its runs, its report, its best model. What is there is left, so run it again."""

from __future__ import annotations

import argparse
import sys

from scp_ray.cli.attaching import MODELS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray track``."""
    parser.add_argument("dir", metavar="DIR", help="a sweep's folder")
    parser.add_argument(
        "--models",
        choices=MODELS,
        default=MODELS[0],
        help="which are logged: the best arm's best (default), all that the sweep has kept, none",
    )


def run(options: argparse.Namespace) -> int:
    """Bring the tracker to what the ledger holds, as the sweep's only driver: a running one tells it by itself."""
    from scp_ray.cli.attaching import attached_of
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
        attached = attached_of(sweep, options.models)
        count = replay(sweep, uri, attached)
    address = redacted(uri)
    look = (
        address if uri.startswith(("http:", "https:")) else f"mlflow ui --host 127.0.0.1 --backend-store-uri {address}"
    )
    files, models = len(attached.files), len(attached.models)
    hung = f", {files} files of its report and tables and {models} model{'s' * (models != 1)}" * bool(files or models)
    if not any(place.startswith("report/") for place in attached.files):
        print(f"There is no report yet: scp-ray report {root}, then scp-ray track {root} once more", file=sys.stderr)
    print(f"{count} rows of {root}{hung} are in MLflow. Look: {look}", file=sys.stderr)
    return 0
