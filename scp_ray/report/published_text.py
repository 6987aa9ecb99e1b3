"""The paper's tables with their audit, for the terminal and as one object."""

from __future__ import annotations

import textwrap
from typing import Any

from scp_ray.report.published import ACCURACIES, GAPS, TABLES, Heading, Printed, floors, printed
from scp_ray.report.published_audit import FateCell, GapCell, copies, fate_cells, gap_cells, spread_cells

WIDTH = 118
_MARKS = {"above": ">", "within": " ", "below": "<"}
_KEY = (
    "x: a FATE that does not follow from the F1 and gaps printed beside it, however they were rounded. > and <: a gap "
    "above or below the noise floor of its test table (classifiers that are fair by construction and right about as "
    "often as the paper's); without a mark it cannot be told from one of theirs. Below: more even than chance leaves "
    "such classifiers, whose errors are drawn from the labels; how errors spread over classes moves the floor."
)


def as_dict(tables: list[str]) -> dict[str, Any]:
    """For --json: of the tables of these names."""
    rows = _of(tables)
    cells = fate_cells(rows)
    return {
        "cells": len(cells),
        "agree": sum(cell.agrees for cell in cells),
        "disagree": [_told(cell) for cell in cells if not cell.agrees],
        "equal_to_rounded": sum(cell.equal for cell in cells),
        "tables": {TABLES[name].title: _counts(name) for name in tables},
        "audit": [_told(cell) | {"from_digits": cell.from_digits, "agrees": cell.agrees} for cell in cells],
        "floors": [
            {"table": cell.table, "method": cell.method, "gap": cell.gap, "printed": cell.printed}
            | {"floor": cell.floor.mean, "band": [cell.floor.low, cell.floor.high], "position": cell.position}
            for cell in gap_cells(rows)
        ],
        "diffs": [
            {"table": cell.table, "method": cell.method, "metric": cell.metric, "printed": cell.printed}
            | {"attainable": [cell.low, cell.high]}
            for cell in spread_cells(rows)
        ],
        "copies": [
            [{"table": TABLES[row.table].title, "method": row.method} for row in pair]
            for pair in copies()
            if any(row in rows for row in pair)
        ],
    }


def format_published(tables: list[str]) -> str:
    """For the terminal."""
    cells = fate_cells(_of(tables))
    equal = sum(cell.equal for cell in cells)
    closing = (
        f"{len(cells)} cells of FATE: {sum(cell.agrees for cell in cells)} agree with the F1 and gaps printed beside "
        f"them, {sum(not cell.agrees for cell in cells)} do not. {equal} equal FATE of the rounded figures themselves."
    )
    return "\n\n".join([*(_table(name) for name in tables), _filled(_KEY), closing])


def _of(tables: list[str]) -> tuple[Printed, ...]:
    return tuple(row for row in printed() if row.table in tables)


def _told(cell: FateCell) -> dict[str, Any]:
    attainable = [cell.low, cell.high]
    return {"table": cell.table, "method": cell.method, "gap": cell.gap, "printed": cell.printed} | {
        "attainable": attainable
    }


def _counts(name: str) -> dict[str, int]:
    cells = fate_cells(_of([name]))
    agree = sum(cell.agrees for cell in cells)
    return {"cells": len(cells), "agree": agree, "equal_to_rounded": sum(cell.equal for cell in cells)}


def _table(name: str) -> str:
    """One table in the paper's form, and what is wrong with it."""
    heading, rows = TABLES[name], _of([name])
    fates = {(cell.method, cell.gap): cell for cell in fate_cells(rows)}
    gaps = {(cell.method, cell.gap): cell for cell in gap_cells(rows)}
    titles = ["method", heading.attribute, "precision", "recall", "F1"]
    lines = [[*titles, *(gap.capitalize() + " / FATE" for gap in GAPS)]]
    for row in rows:
        fair = [_fair(row, gap, gaps[row.method, gap], fates.get((row.method, gap))) for gap in GAPS]
        for place, line in enumerate(heading.lines):
            figures = [row.accuracy[metric][place] for metric in ACCURACIES]
            lines.append([row.method, line, *figures, *fair] if not place else ["", line, *figures])
    baselines = sorted({row.baseline for row in rows})
    versus = baselines[0] if len(baselines) == 1 else "the method that SCP is applied to"
    title = f"{heading.title}: {heading.dataset}, {heading.backbone}; test split; FATE against {versus}"
    return "\n".join([title, "", *_aligned(lines), "", *_below(heading, rows)])


def _fair(row: Printed, gap: str, floor: GapCell, fate: FateCell | None) -> str:
    wrong = fate is not None and not fate.agrees
    return f"{_MARKS[floor.position]}{row.gap[gap]} / {row.fate[gap]:>7}{' x' if wrong else ''}"


def _below(heading: Heading, rows: tuple[Printed, ...]) -> list[str]:
    """The floors, and each figure that does not follow from the others."""
    found = [floors()[heading.dataset, gap] for gap in GAPS]
    bands = ", ".join(
        f"{gap.capitalize()} {floor.mean:.4f} ({floor.low:.4f} to {floor.high:.4f})"
        for gap, floor in zip(GAPS, found, strict=True)
    )
    one = found[0]
    lines = [
        f"Noise floor, mean (95 % band), n = {one.n:,} images ({one.units:,} units), fair classifiers right in "
        f"{100 * one.accuracy:.0f} %: {bands}."
    ]
    for cell in fate_cells(rows):
        if not cell.agrees:
            what = f"FATE of {cell.gap.capitalize()} {cell.printed:.4f}"
            lines.append(f"x {cell.method}: {what}; its own columns allow {cell.low:.4f} to {cell.high:.4f}.")
    for off in spread_cells(rows):
        what = f"Diff of {off.metric.replace('f1', 'F1')} {off.printed:.3f}"
        lines.append(f"- {off.method}: {what}; its group rows allow {off.low:.3f} to {off.high:.3f}.")
    for first, second in copies():
        if second in rows:
            lines.append(f"- {second.method}: every figure is that of {first.method} in {TABLES[first.table].title}.")
    return [_filled(line) for line in lines]


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[place]) for line in lines if place < len(line)) for place in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip() for line in lines]


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ")
