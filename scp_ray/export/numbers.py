"""The card's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scp_ray.parts import FairnessData

_COLUMNS = ("low", "high", "floor_mean", "floor_low", "floor_high", "excess", "p")
_TITLES = {"f1": "macro F1", "eodd": "Eodd", "eopp0": "Eopp0", "eopp1": "Eopp1"}


def rates(value: float) -> str:
    """Four digits, or that it is undefined."""
    return "undefined" if value != value else f"{value:.4f}"


def evidence_table(row: Mapping[str, Any], evidence: pd.DataFrame) -> str:
    """Markdown: each metric with its interval, and each gap with its noise floor, excess and p."""
    lines = ["| metric | observed | 95 % interval | noise floor | excess | p |", "|---" * 6 + "|"]
    for name, title in _TITLES.items():
        cells = [title, rates(float(row[f"val_{name}"]))]
        if name in evidence.index:
            found = {column: float(evidence[column][name]) for column in _COLUMNS}
            cells.append(f"{rates(found['low'])} to {rates(found['high'])}")
            gap = found["floor_mean"] == found["floor_mean"]
            band = f"{rates(found['floor_mean'])} ({rates(found['floor_low'])} to {rates(found['floor_high'])})"
            cells += [band, f"{found['excess']:+.4f}", f"{found['p']:.3f}"] if gap else ["", "", ""]
        else:
            cells += ["no evidence", "no evidence", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def group_table(row: Mapping[str, Any], data: FairnessData) -> str:
    """Markdown: macro precision, recall, F1 and accuracy of each group, with its images."""
    attribute, group = data.attribute_names[0], data.splits["val"].attributes[:, 0]
    lines = [f"| {attribute} | images | precision | recall | F1 | accuracy |", "|---" * 6 + "|"]
    for code in (0, 1):
        numbers = [rates(float(row[f"val_{name}_group{code}"])) for name in ("precision", "recall", "f1", "accuracy")]
        lines.append(f"| {code} | {int((group == code).sum())} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def cost_table(made: Mapping[str, Any], runs_on: str) -> str:
    """Markdown: the masked and the exported model side by side."""
    before, after, timed = made["before"], made["after"], made["latency"]
    rows = [
        ("parameters", f"{before['parameters']:,}", f"{after['parameters']:,}"),
        ("of them not 0", f"{before['nonzero']:,}", f"{after['nonzero']:,}"),
        ("multiply-accumulates of an image", f"{before['macs']:,}", f"{after['macs']:,}"),
        ("milliseconds of an image", f"{timed['before_ms']:.2f}", f"{timed['after_ms']:.2f}"),
    ]
    lines = [f"| | masked (torch) | this file ({runs_on}) |", "|---" * 3 + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    plural = "s" * (timed["threads"] != 1)
    where = f"Time: median of {timed['calls']} calls in turn, {timed['threads']} thread{plural}, {timed['machine']}."
    return "\n".join([*lines, "", f"{where} Convolutions and linear layers are counted; {made['bytes']:,} bytes."])
