"""Print the paper's tables with their audit: which FATE follow from their own columns, where gaps lie against noise."""

from __future__ import annotations

import argparse

from scp_ray.cli.output import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray published``."""
    parser.add_argument("--table", metavar="NAME", help="one of table1, table2, supp1, supp2, supp3; all unless given")
    parser.add_argument("--json", action="store_true", help="print one JSON object: cells, agree, disagree and more")


def run(options: argparse.Namespace) -> int:
    """Nothing is read but the package's own figures."""
    from scp_ray.report.published import TABLES, find_table
    from scp_ray.report.published_text import as_dict, format_published

    tables = [*TABLES] if options.table is None else [find_table(options.table)]
    if options.json:
        print_json(as_dict(tables))
    else:
        print(format_published(tables))
    return 0
