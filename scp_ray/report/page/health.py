"""What is wrong with the data, what failed and what has to be read with care."""

from __future__ import annotations

from typing import Any

from scp_ray.ledger import Sweep
from scp_ray.report.page.markup import command_line, esc, listed, paragraph, tag
from scp_ray.report.page.progress import Progress
from scp_ray.report.search_words import chance_lines


def health_html(sweep: Sweep) -> str:
    """Of every data set of the sweep: images by split and group, and the notes of its check."""
    records = sweep.definition.get("data", {})
    if not records:
        return paragraph("The sweep has kept no record of its data.")
    return "".join(_record(key, record) for key, record in records.items())


def _record(key: str, record: dict[str, Any]) -> str:
    health, notes = record.get("health", {}), record.get("notes", [])
    said = listed(notes) if notes else paragraph("The check of the data found nothing to report.")
    return tag("h3", f"Data set {tag('code', esc(key))}") + _splits(health) + said


def _splits(health: dict[str, Any]) -> str:
    splits = health.get("splits", {})
    if not splits:
        return ""
    groups = sorted({group for counts in health.get("groups", {}).values() for group in counts})
    titles = [
        "split",
        "images",
        *(f"group {group}" for group in groups),
        "empty cells",
        "cells under 5",
        "unknown group",
    ]
    body = ""
    for split, images in splits.items():
        counts = [images, *(health["groups"].get(split, {}).get(group, 0) for group in groups)]
        counts += [len(health.get(name, {}).get(split, [])) for name in ("absent_cells", "thin_cells")]
        counts += [health.get("unknown_group", {}).get(split, 0)]
        cells = "".join(tag("td", f"{count:,}", class_="number") for count in counts)
        body += tag("tr", tag("th", esc(split), scope="row", class_="text") + cells)
    head = "".join(
        tag("th", esc(title), scope="col", class_="number" if at else "text") for at, title in enumerate(titles)
    )
    caption = tag("caption", tag("span", "Cells: images of one class and one group."))
    table = tag("table", caption + tag("thead", tag("tr", head)) + tag("tbody", body))
    return tag(
        "div", tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Images"), class_="table"
    )


def warnings(sweep: Sweep) -> list[str]:
    """Base models that guess."""
    known = "val_balanced_accuracy" in sweep.bases
    return [line.removeprefix("warning: ") for line in chance_lines(sweep)] if known else []


def failures_html(progress: Progress) -> str:
    """Each failure with its reason and the command that tries it again."""
    if not progress.failures:
        return paragraph("Nothing failed.")
    items = ""
    for key, failure in progress.failures.items():
        title = tag("h3", f"{esc(failure['label'])} {tag('code', esc(key))}")
        items += tag("li", title + paragraph(failure["reason"]) + command_line(failure["rerun"]))
    return tag("ul", items, class_="failures")
