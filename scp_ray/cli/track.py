"""Fill MLflow from a sweep's ledger. What is already there is left as it is, so it may be run again."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray track``."""
    parser.add_argument("dir", metavar="DIR", help="a sweep's folder")


def run(options: argparse.Namespace) -> int:
    """Replay every committed row into the tracker."""
    from scp_ray.cli.sweep import tracking_uri
    from scp_ray.errors import SweepHeldError
    from scp_ray.ledger import load_sweep
    from scp_ray.ledger.lease import living_driver
    from scp_ray.tracking.copied import with_copies
    from scp_ray.tracking.mlflow import MLflowSink, replay

    sweep = load_sweep(options.dir)
    driver = living_driver(sweep.ledger.driver)
    if driver:
        raise SweepHeldError(
            f"process {driver['pid']} on {driver['host']} runs this sweep and tells the tracker itself; wait for it."
        )
    uri = tracking_uri(sweep.ledger.root)
    count = replay(sweep, with_copies(MLflowSink(uri, sweep.ledger.root), uri, sweep.ledger))
    print(
        f"{count} rows of {sweep.ledger.root} are in MLflow. Look: mlflow ui --backend-store-uri {uri}", file=sys.stderr
    )
    return 0
