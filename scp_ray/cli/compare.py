"""Say whether one arm of a sweep is better than another, paired over seeds and images.

A and B are arms: a label, a filter (pr_c=0.02,layer=-1), or base for the models before pruning. The difference is A
minus B, each at its selected round.
"""

from __future__ import annotations

import argparse
import sys

from scp_ray.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray compare``."""
    parser.add_argument("dir", metavar="DIR", help="a sweep's folder")
    parser.add_argument("first", metavar="A", help="an arm: its label or a filter such as pr_c=0.02,layer=-1")
    parser.add_argument("second", metavar="B", help="another one; base (or round=0) for the models before pruning")
    parser.add_argument(
        "--split", choices=("val", "test"), default="val", help="test shows test numbers, which sweep.json counts"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Compare what the ledger holds; nothing is written but the count of test reveals."""
    from scp_ray.ledger import load_sweep
    from scp_ray.ledger.reveals import count_reveal
    from scp_ray.report.arms import find_arm
    from scp_ray.report.compare import compare
    from scp_ray.report.compare_text import format_comparison

    sweep = load_sweep(options.dir)
    first, second = (find_arm(sweep, asked) for asked in (options.first, options.second))

    def told(arms: int) -> None:
        if arms > 1:
            print(f"comparing {arms} arms with the baseline, for Holm's correction", file=sys.stderr)

    found = compare(sweep, first, second, split=options.split, told=told)
    reveals = count_reveal(sweep.ledger) if options.split == "test" else None  # where it fails, nothing is shown
    if options.json:
        print_json(found.as_dict() | ({} if reveals is None else {"test_reveals": reveals}))
        return 0
    print(format_comparison(found))
    if reveals is not None:
        print(
            f"Test numbers of this sweep have now been shown {reveals} time{'s' * (reveals > 1)} (sweep.json). Rounds "
            f"were selected on validation, among {found.configurations} configurations."
        )
    return 0
