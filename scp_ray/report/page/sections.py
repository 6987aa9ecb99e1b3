"""The parts of the page that are words, pictures and tables made elsewhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

import pandas as pd

from scp_ray.report.compare import Comparison
from scp_ray.report.page.answer import Answer
from scp_ray.report.page.markup import command_line, esc, paragraph, tag
from scp_ray.report.page.parts import Picture, TestSection
from scp_ray.report.page.tables import Column, Table

_METRICS = {"f1": "F1", "eopp0": "Eopp0", "eopp1": "Eopp1", "eodd": "Eodd", "fate_eodd": "FATE of Eodd"}


def answer_html(answer: Answer, progress: str, warnings: Sequence[str]) -> str:
    """Headline, key numbers, what is to be said of them."""
    parts = [paragraph(progress, class_="progress", role="status")] if progress else []
    parts.append(tag("p", esc(answer.headline), class_="headline"))
    if answer.reality and answer.reality.verdict:
        parts.append(paragraph(answer.reality.verdict, class_="verdict"))
    if answer.numbers:
        cells = "".join(
            tag("div", tag("dt", esc(n.title)) + tag("dd", esc(n.value)) + tag("dd", esc(n.note), class_="note"))
            for n in answer.numbers
        )
        parts.append(tag("dl", cells, class_="numbers"))
    if answer.read:
        parts.append(paragraph(answer.read, class_="read"))
    for each in answer.paragraphs:
        command = command_line(each.command) if each.command else ""
        parts.append(tag("h3", esc(each.title)) + paragraph(each.words) + command)
        if answer.reality and each.words == answer.reality.words and answer.reality.comparison:
            parts.append(_comparison(answer.reality.comparison))
    parts += [paragraph(warning, class_="warning") for warning in warnings]
    return "".join(parts)


def _comparison(found: Comparison) -> str:
    """The lines of the paired comparison, folded away."""
    frame = pd.DataFrame(
        [
            {
                "metric": _METRICS.get(line.metric) or f"{_METRICS[line.metric.removeprefix('excess_')]} excess",
                "first": line.first,
                "second": line.second,
                "difference": line.difference,
                "interval": "-" if math.isnan(line.low) else f"{line.low:+.4f} to {line.high:+.4f}",
                "p": line.p,
                "p_holm": line.p_holm,
                "verdict": line.verdict or "-",
            }
            for line in found.lines
        ]
    )
    columns = [
        Column("metric", "", "text"),
        Column("first", "this arm"),
        Column("second", "before pruning"),
        Column("difference", "difference", sign=True),
        Column("interval", "95 % interval", "text"),
        Column("p", "p", digits=3),
        Column("p_holm", "p (Holm)", digits=3),
        Column("verdict", "this arm is", "text"),
    ]
    caption = (
        f"Validation, n = {found.n:,} images ({found.units:,} units), seeds {', '.join(map(str, found.seeds))}; rounds "
        f"selected by {', '.join(found.select)}. Difference: mean over seeds of the paired difference; its interval is "
        "of the expected value on this table's class x group counts. Excess: gap minus that model's own noise floor."
    )
    table = Table("comparison", "Paired comparison with the models before pruning", caption, columns, frame)
    notes = "".join(paragraph(note) for note in found.notes)
    return tag("details", tag("summary", "The paired comparison, line by line") + table.html() + notes)


def pictures_html(pictures: Sequence[Picture]) -> str:
    """As images of their own: an SVG's styles and identifiers stay inside it, and a script in one is never run."""
    shown = ""
    for picture in pictures:
        source = "data:image/svg+xml;base64," + base64.b64encode(picture.svg.encode()).decode("ascii")
        title = tag("strong", esc(picture.title))
        caption = tag("figcaption", f"{title} {esc(picture.caption)}")
        image = f'<img src="{source}" alt="{esc(picture.title)}" decoding="async">'
        shown += tag("figure", image + caption, id=f"picture-{picture.name}", class_="picture")
    return shown


def test_html(test: TestSection, table: Table) -> str:
    """Words first: test numbers without them would be read as validation's are."""
    return paragraph(test.words) + table.html()


def tables_html(tables: Sequence[Table]) -> str:
    """Each under its own heading."""
    return "".join(tag("h3", esc(table.title)) + table.html() for table in tables)
