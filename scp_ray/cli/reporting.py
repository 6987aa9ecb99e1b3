"""What ``scp-ray report`` puts into report/ beside its first table: figures, the paper's form of table, the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scp_ray.errors import ScpError

if TYPE_CHECKING:
    from scp_ray.ledger import Sweep
    from scp_ray.places import AnyPath
    from scp_ray.report.page.parts import PageTable, Picture, TestSection


@dataclass
class Written:
    """The page, all files beside it, and what could not be made, with the reason."""

    page: AnyPath
    files: list[AnyPath] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def write_report(sweep: Sweep, test: dict[str, Any] | None) -> Written:
    """Write report/figures, report/tables and report/index.html of what the ledger holds so far.

    Args:
        sweep: it may still be running.
        test: ``rows`` and ``words`` of the test numbers, where they are asked for; the look has been counted.
    """
    from scp_ray.report.page.page import write_page

    folder = sweep.ledger.root / "report"
    written = Written(folder / "index.html")
    pictures = _figures(sweep, folder / "figures", written)
    tables = [_table(sweep, folder / "tables", "val", written)]
    if test is not None:
        tables.append(_table(sweep, folder / "tables", "test", written))
    write_page(
        sweep,
        folder,
        pictures=pictures,
        tables=[table for table in tables if table is not None],
        test=None if test is None else _test_section(test),
    )
    return written


def _figures(sweep: Sweep, folder: AnyPath, written: Written) -> list[Picture]:
    from scp_ray.report.figures.all import all_figures, remove_undrawn
    from scp_ray.report.figures.drawn import save_drawn, svg_of
    from scp_ray.report.page.parts import Picture
    from scp_ray.report.paper_beside import dataset_of, published_points

    drawn, reasons = all_figures(sweep, published=published_points(dataset_of(sweep)))
    written.missing += reasons
    for figure in drawn:
        written.files += save_drawn(figure, folder)
    remove_undrawn(folder, drawn)
    return [Picture(figure.name, figure.title, figure.caption, svg_of(figure)) for figure in drawn]


def _table(sweep: Sweep, folder: AnyPath, split: str, written: Written) -> PageTable | None:
    """The paper's form of table as files, and for the page."""
    from scp_ray.report.page.parts import PageTable
    from scp_ray.report.paper_formats import shown
    from scp_ray.report.paper_tables import paper_table, write_table

    try:
        table = paper_table(sweep, split)
        written.files += write_table(table, folder)
    except ScpError as error:
        written.missing.append(f"table-{split}: {error}")
        return None
    title = "In the form of the paper's tables" + ", on the test split" * (split == "test")
    return PageTable(title, " ".join([table.caption, *table.notes]), shown(table.frame), sortable=False)


def _test_section(test: dict[str, Any]) -> TestSection:
    import pandas as pd

    from scp_ray.report.page.parts import TestSection

    return TestSection(pd.DataFrame(test["rows"]), test["words"])
