"""Tables of the page: the first rows as plain HTML, all of them as data that the page's script sorts and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scp_ray.report.page.markup import columnar, esc, plain, tag
from scp_ray.report.page.parts import PageTable
from scp_ray.report.yardstick import Yardstick

FIRST = 25  # rows that a page of a table shows


@dataclass(frozen=True)
class Column:
    """Of a table: ``kind`` is text, number, arm or trial (the last two open their details)."""

    key: str
    title: str
    kind: str = "number"
    digits: int | None = 4  # after the point; None: as it is
    sign: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under columns; the frame may hold more columns than are shown."""

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    frame: pd.DataFrame
    sortable: bool = True

    def data(self) -> dict[str, Any]:
        """For the script."""
        columns = [
            {"title": c.title, "kind": c.kind, "digits": c.digits, "sign": c.sign, "hint": c.hint} for c in self.columns
        ]
        shown = pd.DataFrame({str(place): self.frame[c.key] for place, c in enumerate(self.columns)})
        cells = list(columnar(shown).values())
        return {"columns": columns, "cells": cells, "title": self.title, "sortable": self.sortable}

    def html(self) -> str:
        """The first rows; what the script adds is marked by ``data-table``."""
        head = "".join(
            tag("th", esc(c.title), scope="col", class_=_class(c), title=c.hint or None) for c in self.columns
        )
        rows = self.frame.head(FIRST) if self.sortable else self.frame
        cells = [[_cell(c, value) for value in rows[c.key].tolist()] for c in self.columns]
        body = "".join(tag("tr", "".join(row)) for row in zip(*cells, strict=True))
        more = len(self.frame) - len(rows)
        note = f"The first {len(rows)} of {len(self.frame):,} rows; the others need JavaScript." if more > 0 else ""
        caption = tag("caption", tag("span", esc(self.caption))) if self.caption else ""
        table = tag("table", caption + tag("thead", tag("tr", head)) + tag("tbody", body))
        rolled = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=self.title)
        noscript = tag("noscript", tag("p", esc(note))) if note else ""
        return tag("div", rolled + noscript, class_="table", data_table=self.name)


def _class(column: Column) -> str:
    return column.kind if column.kind in ("number", "arm") else "text"


def _cell(column: Column, value: Any) -> str:
    return tag("td", esc(shown(column, value)), class_=_class(column))


def shown(column: Column, value: Any) -> str:
    """A cell's text; a dash where it is undefined."""
    value = plain(value)
    if value is None:
        return "-"
    if column.kind != "number" or isinstance(value, str | bool):
        return str(value)
    if column.digits is None:
        return f"{value:{'+' if column.sign else ''}.6g}"
    return f"{value:{'+' if column.sign else ''}.{column.digits}f}"


def arms_table(arms: pd.DataFrame, yardstick: Yardstick, caption: str) -> Table:
    """Of ``ranked`` rows."""
    gap, title = yardstick.gap, yardstick.gap_title
    frame = arms.assign(
        seeds_done=[f"{done} of {asked}" for done, asked in zip(arms["done"], arms["asked"], strict=True)],
        excess=arms[gap] - arms[f"{gap}_floor_mean"],
        standing=[_standing(row) for row in arms[["front", "knee", "feasible", "whole"]].to_dict("records")],
        rounds=arms["rounds"].fillna("-"),
    )
    columns = [
        Column("arm", "arm", "arm"),
        Column("seeds_done", "seeds", "text", hint="done, of those asked for"),
        Column("rounds", "round", "text", hint="selected round of each seed"),
        Column("f1", "F1"),
        Column("f1_std", "±", hint="standard deviation over seeds"),
        Column(gap, title),
        Column(f"{gap}_std", "±", hint="standard deviation over seeds"),
        Column(f"{gap}_floor_mean", "floor", hint=f"noise floor of {title}: mean of its permutation null"),
        Column("excess", "excess", sign=True, hint=f"{title} minus its noise floor"),
        Column(f"{gap}_p", "p", digits=3, hint=f"of {title} against its noise floor; median over seeds"),
        Column(yardstick.column, yardstick.title, sign=True),
        Column(f"{yardstick.column}_std", "±", hint="standard deviation over seeds"),
        Column("channels_left", "channels", digits=None, hint="left in the layer that is pruned"),
        Column("standing", "standing", "text"),
    ]
    return _table("arms", "Arms", caption, columns, frame)


def trials_table(trials: pd.DataFrame, rows: pd.DataFrame, yardstick: Yardstick, caption: str) -> Table:
    """A row per arm and seed at its selected round: ``sweep.trials`` beside ``round_rows``."""
    gap = yardstick.gap
    known = rows.rename(columns={"round": "selected_round"})
    measured = ["f1", gap, f"{gap}_floor_mean", f"{gap}_p", yardstick.column, "channels_left"]
    measured = [name for name in measured if name in known]
    frame = trials.merge(known[["arm", "trial_id", "selected_round", *measured]], how="left",
                         on=["arm", "trial_id", "selected_round"])  # fmt: skip
    frame["progress"] = [f"{d} of {a}" for d, a in zip(frame["rounds_done"], frame["rounds_asked"], strict=True)]
    columns = [
        Column("trial_id", "trial", "trial"),
        Column("arm", "arm", "text"),
        Column("seed", "seed", digits=0),
        Column("status", "status", "text"),
        Column("progress", "rounds", "text"),
        Column("selected_round", "selected", digits=0),
        Column("f1", "F1"),
        Column(gap, yardstick.gap_title),
        Column(f"{gap}_floor_mean", "floor"),
        Column(f"{gap}_p", "p", digits=3),
        Column(yardstick.column, yardstick.title, sign=True),
        Column("channels_left", "channels", digits=0, hint="left in the layer that is pruned"),
    ]
    return _table("trials", "Trials", caption, columns, frame)


def page_table(name: str, table: PageTable) -> Table:
    """One that was handed over: whole numbers as they are, others with four places."""
    columns = []
    for key in table.frame.columns:
        kind = table.frame[key].dtype.kind
        digits = 4 if kind == "f" else None
        columns.append(Column(key, str(key), "number" if kind in "iuf" else "text", digits))
    return Table(name, table.title, table.caption, columns, table.frame, table.sortable)


def _table(name: str, title: str, caption: str, columns: list[Column], frame: pd.DataFrame) -> Table:
    """Without the columns that nothing is known for."""
    kept = [c for c in columns if c.key in frame and (frame[c.key].notna() & (frame[c.key] != "")).any()]
    return Table(name, title, caption, kept, frame)


def _standing(row: Mapping[Any, Any]) -> str:
    if not row["whole"]:
        return "not done"
    marks = [name for name in ("front", "knee") if row[name]]
    return ", ".join(marks) if row["feasible"] else "breaks a constraint"
