"""One self-contained page on a sweep: index.html, which needs no server, no network and nothing beside it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from importlib import resources
from string import Template

from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from scp_ray.ledger import Sweep
from scp_ray.ledger.files import write_bytes
from scp_ray.places import AnyPath
from scp_ray.report.best import trade_offs
from scp_ray.report.page.answer import answer_of
from scp_ray.report.page.arms import arm_rows, ranked
from scp_ray.report.page.cost import cost_of
from scp_ray.report.page.data import page_data
from scp_ray.report.page.health import failures_html, health_html, warnings
from scp_ray.report.page.markup import esc, json_script, tag
from scp_ray.report.page.parts import PageTable, Picture, TestSection
from scp_ray.report.page.progress import progress_of
from scp_ray.report.page.reproduce import reproduce_html
from scp_ray.report.page.rounds import round_rows
from scp_ray.report.page.sections import answer_html, pictures_html, tables_html, test_html
from scp_ray.report.page.tables import Table, arms_table, page_table, trials_table
from scp_ray.report.page.words import images_of, rules_of, seeds_of
from scp_ray.report.yardstick import yardstick_of

SCRIPTS = ("base", "theme", "table", "detail", "keys", "curves", "plane", "start")


def write_page(
    sweep: Sweep,
    folder: AnyPath,
    *,
    pictures: Sequence[Picture] = (),
    tables: Sequence[PageTable] = (),
    test: TestSection | None = None,
) -> AnyPath:
    """Write folder/index.html, in one step, and return its path.

    The numbers are the ledger's, on validation; ``test`` alone brings test numbers, and who hands them over has
    counted the look. Nothing is resampled but the paired comparison of the best arm with the models before pruning,
    in sweeps of at most ``reality.MOST_COMPARED`` arms. The sweep may still be running.

    Raises LedgerError where the ledger cannot be read or the page not be written.
    """
    path = folder / "index.html"
    write_bytes(path, page_html(sweep, pictures=pictures, tables=tables, test=test).encode())
    return path


def page_html(
    sweep: Sweep,
    *,
    pictures: Sequence[Picture] = (),
    tables: Sequence[PageTable] = (),
    test: TestSection | None = None,
) -> str:
    """The page's text; see ``write_page``."""
    progress, cost = progress_of(sweep), cost_of(sweep)
    begun = bool(len(sweep.rounds))
    given = [page_table(f"given-{at}", table) for at, table in enumerate(tables)]
    tested = page_table("test", PageTable("Test numbers", "", test.frame)) if test else None
    own: list[Table] = []
    content = {}
    if begun:
        rows, yardstick, result = round_rows(sweep), yardstick_of(sweep), trade_offs(sweep)
        table = arm_rows(sweep, rows, result)
        answer = answer_html(
            answer_of(sweep, table, yardstick, result, progress, cost), progress.words, warnings(sweep)
        )
        best_first = ranked(table, yardstick)
        own = [
            arms_table(best_first, yardstick, _caption(sweep, "Means over seeds, each trial at its selected round.")),
            trials_table(sweep.trials, rows, yardstick, _caption(sweep, "Each trial at its selected round.")),
        ]
        content = page_data(sweep, rows, best_first, yardstick, result, progress)
    else:
        answer = tag("p", "No answer yet: no round is done.", class_="headline") + tag(
            "p", esc(progress.words), class_="progress"
        )
    content["tables"] = {each.name: each.data() for each in [*own, *given, *([tested] if tested else [])]}
    sections = {
        "charts": ("Curves and trade-offs", _asset("charts.html") if begun else ""),
        "pictures": ("Figures", pictures_html(pictures)),
        "tables": ("Tables", tables_html(given)),
        "arms": ("Arms and trials", tables_html(own)),
        "test": ("Test split", test_html(test, tested) if test and tested else ""),
        "health": ("Data", health_html(sweep)),
        "failures": ("Failures", failures_html(progress)),
        "reproduce": ("How to do it again", reproduce_html(sweep)),
        "reading": ("How to read the numbers", _asset("reading.html")),
    }
    kept = {name: part for name, part in sections.items() if part[1]}
    return Template(_asset("page.html")).substitute(
        title=esc(sweep.definition.get("name", "sweep")),
        style=_asset("page.css"),
        made=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        version=esc(sweep.definition.get("versions", {}).get("scp_ray", "")),
        navigation="".join(tag("a", esc(title), href=f"#{name}") for name, (title, _) in kept.items()),
        answer=answer,
        sections="".join(_section(name, *part) for name, part in kept.items()),
        data=json_script(content, "data"),
        plotly=get_plotlyjs() if begun else "",
        script="\n".join(_asset(f"{name}.js") for name in SCRIPTS),
    )


def _section(name: str, title: str, inside: str) -> str:
    return tag("section", tag("h2", esc(title), id=f"{name}-title") + inside, id=name, aria_labelledby=f"{name}-title")


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _caption(sweep: Sweep, words: str) -> str:
    return f"{words} Validation split, {images_of(sweep)} images; seeds {seeds_of(sweep)}; rule: {rules_of(sweep)}."
