"""A table in the paper's form as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from scp_ray.maths.gaps import GAPS

_DIGITS = {"eopp0": 4}  # of true negative rates, which are close to each other; the others have three
_HEAD = ("Method", "Group", "Precision", "Recall", "F1-score", *(f"{gap.capitalize()} / FATE" for gap in GAPS))
_LINES = 4  # of a method
_FLOATING = 8  # methods that fit on a page; more go over several
_SIGN = "\u2212"  # minus
_NARROW = r"\smash{\parbox[t]{.12\textwidth}{\raggedright{}}}"  # beside the three lines below it, which have none
_SPECIAL = {
    **{letter: "\\" + letter for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    "[": "{[}",  # after the end of a line it would begin an option
    **{"±": r"$\pm$", _SIGN: "$-$"},
}
_LACKING = "«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲų"  # of Latin letters and signs below U+017F, in LaTeX's own encoding
_FOREIGN = re.compile(rf"[^\x20-\x7e\u00a1-\u017e]|[{_LACKING}]")
_MINUS = re.compile(r"(?<![\w)])-(?=[\d.])")
_NEEDS = "% to be read by \\input; needs \\usepackage{booktabs} and "


def markdown(frame: pd.DataFrame, caption: str, notes: Sequence[str]) -> str:
    """The caption, the table, the notes."""
    lines = [_HEAD, ("---",) * len(_HEAD), *(row for block in _blocks(frame) for row in block)]
    table = "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)
    below = ["\n".join(f"- {_plain(note)}" for note in notes)] if notes else []
    return "\n\n".join([_plain(caption), table, *below]) + "\n"


def latex(frame: pd.DataFrame, caption: str, notes: Sequence[str], *, label: str) -> str:
    """A floating table for \\input; one over several pages (longtable) where it has many methods."""
    blocks = list(_blocks(frame))
    titles = [*_HEAD[:5], *(rf"{gap.capitalize()}$\downarrow$ / FATE$\uparrow$" for gap in GAPS)]
    head = [r"\toprule", " & ".join(titles) + r" \\", r"\midrule"]
    floating = len(blocks) <= _FLOATING
    body = "\n\\addlinespace\n".join(_rows(block, "{}" if floating else _NARROW) for block in blocks)
    told = rf"\caption{{{tex(caption)}}}\label{{{label}}}"
    below = [rf"\par\smallskip\footnotesize\raggedright {tex(note)}" for note in notes]
    numbers = "l" * (len(_HEAD) - 1) + "@{}}"
    if floating:
        begin = [r"\begin{table}[tbp]", r"\centering", told, r"\par\medskip", r"\resizebox{\textwidth}{!}{%"]
        inner = [r"\begin{tabular}{@{}l" + numbers, *head, body, r"\bottomrule", r"\end{tabular}}", *below]
        return "\n".join([_NEEDS + r"\usepackage{graphicx}", *begin, *inner, r"\end{table}", ""])
    begin = [
        r"{\tiny\setlength{\tabcolsep}{1.5pt}\setlength{\LTcapwidth}{\textwidth}",
        r"\begin{longtable}{@{}l" + numbers,
        told + r" \\",
    ]
    inner = [*head, r"\endfirsthead", *head, r"\endhead", r"\bottomrule", r"\endlastfoot", body]
    return "\n".join([_NEEDS + r"\usepackage{longtable}", *begin, *inner, r"\end{longtable}", *below, "}", ""])


def _rows(block: Sequence[Sequence[str]], name: str) -> str:
    """A method's rows, kept on one page; ``name``: how its name is set."""
    lines = []
    for place, row in enumerate(block):
        first = name.replace("{}", f"{{{tex(row[0])}}}") if row[0] else ""
        end = r" \\*" if place < len(block) - 1 else r" \\"
        lines.append(" & ".join([first, *map(tex, row[1:])]) + end)
    return "\n".join(lines)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells of ``markdown``, as a frame of strings."""
    return pd.DataFrame([row for block in _blocks(frame) for row in block], columns=list(_HEAD))


def tex(text: str) -> str:
    """Escaped; a letter that LaTeX's own fonts lack is named by its code."""
    known = _FOREIGN.sub(lambda found: found[0] if found[0] in _SPECIAL else f"[U+{ord(found[0]):04X}]", text)
    return "".join(_SPECIAL.get(letter, letter) for letter in _MINUS.sub(_SIGN, known))


def _plain(text: str) -> str:
    """As Markdown shows it: a bar would end a cell, a star or an underscore begin emphasis."""
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


def _blocks(frame: pd.DataFrame) -> Iterator[list[list[str]]]:
    """Four rows of eight cells for each method."""
    records = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    for start in range(0, len(records), _LINES):
        rows = records[start : start + _LINES]
        fair = [_fairness(rows[0], gap) for gap in GAPS]
        yield [
            [
                str(row["method"]) if not place else "",
                str(row["line"]),
                *(_accuracy(row, name, average=place == 2) for name in ("precision", "recall", "f1")),
                *(column[place] for column in fair),
            ]
            for place, row in enumerate(rows)
        ]


def _accuracy(row: dict[str, Any], name: str, *, average: bool) -> str:
    parts = [_spread(row, name, 3) if average else _number(row[name], 3)]
    if row[f"{name}_paper"] == row[f"{name}_paper"]:
        parts.append(f"({row[f'{name}_paper']:.3f})")
    return " ".join([*parts, *_word(row, name, average)])


def _word(row: dict[str, Any], name: str, shown: bool) -> list[str]:
    """ "better" or "worse"; what cannot be distinguished has no word."""
    said = str(row.get(f"{name}_verdict", "")).partition(" ")[0]
    return [said] if shown and said in ("better", "worse") else []


def _fairness(row: dict[str, Any], gap: str) -> list[str]:
    """A method's four lines on one gap: the gap, its floor, FATE, and what the paper prints of both."""
    digits = _DIGITS.get(gap, 3)
    floor = row[f"{gap}_floor"]
    paper, fate = row[f"{gap}_paper"], row[f"fate_{gap}_paper"]
    as_printed = f"{paper:.3f}" if round(paper, 3) == paper else f"{paper:.4f}"
    printed = f"({as_printed}" + (f" / {fate:.4f})" if fate == fate else ")") if paper == paper else ""
    return [
        " ".join([_spread(row, gap, digits), *_word(row, gap, True)]),
        f"floor {_number(floor, digits)}" if row["seeds"] else "",
        f"FATE {_spread(row, f'fate_{gap}', 3)}" if row["seeds"] else "",
        printed,
    ]


def _spread(row: dict[str, Any], name: str, digits: int) -> str:
    """Mean and half of the interval."""
    half = (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    return _number(row[name], digits) + (f" ± {half:.{digits}f}" if half == half else "")


def _number(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
