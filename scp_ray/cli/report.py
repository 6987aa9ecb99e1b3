"""Write the report on a sweep: a page to open in a browser, figures, tables; print the numbers behind them.

Of a search also its Pareto set, the best under each constraint, hypervolume over trials, importance of the parameters.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING

from scp_ray.cli.output import print_json
from scp_ray.cli.trade_offs import trade_offs

if TYPE_CHECKING:
    from scp_ray.ledger import Sweep
    from scp_ray.places import AnyPath


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray report``."""
    parser.add_argument("dir", metavar="DIR", help="a sweep's folder; it may still be running")
    parser.add_argument(
        "--show-test",
        action="store_true",
        help="also test numbers of what validation has selected; counted in sweep.json, refused while the sweep runs",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: the tables and the files")


def run(options: argparse.Namespace) -> int:
    """Page, figures and tables of what the ledger holds so far."""
    from scp_ray.cli.reporting import write_report
    from scp_ray.ledger import load_sweep
    from scp_ray.ledger.evidence import fill_evidence
    from scp_ray.ledger.files import write_bytes
    from scp_ray.report.figures.fate_curves import draw_fate_curves, draws_bands, save_figure
    from scp_ray.report.tables import caption, fate_points, fate_table, format_table, notes
    from scp_ray.report.test_numbers import remove_test_files

    sweep = load_sweep(options.dir)
    if not len(sweep.rounds):
        remove_test_files(sweep)
        return _page_alone(sweep, as_json=options.json)
    fill_evidence(sweep, _tell_filling)
    table = fate_table(sweep)
    folder, below = sweep.ledger.root / "report", caption(sweep, bands=draws_bands(table))
    files = save_figure(draw_fate_curves(table, below, fate_points(sweep)), folder / "fate-curves")
    files.append(folder / "fate-curves.csv")
    write_bytes(files[-1], table.to_csv(index=False).encode())
    found = trade_offs(sweep, show_test=options.show_test)
    if "test" not in found:
        remove_test_files(sweep)
    files, lines = files + found.pop("files"), found.pop("lines")
    written = write_report(sweep, found.get("test"))
    if options.json:
        content = {"table": table.to_dict("records"), "page": str(written.page), "missing": written.missing}
        print_json(content | {"files": [str(path) for path in files + written.files], "search": found})
        return 0
    print(format_table(table))
    print("", *(textwrap.fill(note, 118) for note in notes(table)), "", below, "", sep="\n")
    print(*lines, sep="\n")
    for note in dict.fromkeys(note for data in sweep.definition.get("data", {}).values() for note in data["notes"]):
        print(f"Data: {note}")
    for reason in written.missing:
        print(textwrap.fill(f"Not made: {reason}", 118))
    for path in files:
        print(path)
    kinds = ", ".join(f"{folder}/ ({count} files)" for folder, count in _folders(written.files).items())
    print(*([f"Beside it: {kinds}"] if kinds else []), f"The report: {written.page}", sep="\n")
    return 0


def _page_alone(sweep: Sweep, *, as_json: bool) -> int:
    """Of a sweep that has no round yet: how far it is, what failed and how to go on."""
    from scp_ray.report.page.page import write_page

    page = write_page(sweep, sweep.ledger.root / "report")
    if as_json:
        content = {"table": [], "page": str(page), "missing": ["no round has been recorded yet"]}
        print_json(content | {"files": [], "search": {}})
        return 0
    print(f"No round has been recorded yet, so there are no tables and figures. See scp-ray status {sweep.ledger.root}")
    print(f"The report, with how far the sweep is and what failed: {page}")
    return 0


def _folders(files: list[AnyPath]) -> Counter[str]:
    return Counter(str(path.parent) for path in files)


def _tell_filling(rounds: int) -> None:
    print(
        f"{rounds} rounds have no evidence yet, as in older sweeps: it is made of their stored predictions and kept",
        file=sys.stderr,
    )
