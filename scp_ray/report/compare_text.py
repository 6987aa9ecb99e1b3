"""A comparison of two arms as a page of text."""

from __future__ import annotations

import math

from scp_ray.report.arms import BASE
from scp_ray.report.compare import Comparison, Line

_NAMES = {"f1": "F1", "eopp0": "Eopp0", "eopp1": "Eopp1", "eodd": "Eodd", "fate_eodd": "FATE of Eodd"}


def format_comparison(found: Comparison) -> str:
    """For the terminal."""
    split = {"val": "validation"}.get(found.split, found.split)
    seeds = f"seed{'s' * (len(found.seeds) > 1)} {', '.join(map(str, found.seeds))}"
    lines = [
        *(f"{letter}: {_arm(label, found)}" for letter, label in (("A", found.first), ("B", found.second))),
        f"{split} split, n = {found.n} images ({found.units} units), {seeds}; "
        f"rounds selected by {', '.join(found.select)} on validation",
        "",
        _table(found.lines),
        "",
        "A - B: mean over seeds of the paired difference and its 95 % interval; the estimand is the expected value on "
        "this table's class x group counts. Excess: gap minus that model's own noise floor.",
        f"Holm: over {found.compared} p-values, F1 and excess Eodd of every arm against {found.baseline} "
        f"({found.configurations} configurations in the sweep).",
        *found.notes,
    ]
    return "\n".join(lines)


def _arm(label: str, found: Comparison) -> str:
    rounds = found.rounds[label]
    name = "the models before pruning" if label == BASE else label
    several = len(set(rounds.values())) > 1
    return f"{name} (round{'s' * several} {', '.join(map(str, rounds.values() if several else {*rounds.values()}))})"


def _table(lines: list[Line]) -> str:
    rows = [
        {
            "": _NAMES.get(line.metric) or f"{_NAMES[line.metric.removeprefix('excess_')]} excess",
            "A": _number(line.first),
            "B": _number(line.second),
            "A - B": _number(line.difference, sign=True),
            "95 % interval": "" if math.isnan(line.low) else f"{line.low:+.4f} to {line.high:+.4f}",
            "p": _p(line.p),
            "p (Holm)": _p(line.p_holm),
            "A is": line.verdict,
        }
        for line in lines
    ]
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    aligned = [
        "  ".join(
            f"{text:<{widths[key]}}" if key in ("", "A is") else f"{text:>{widths[key]}}" for key, text in row.items()
        )
        for row in [{key: key for key in widths}, *rows]
    ]
    return "\n".join(line.rstrip() for line in aligned)


def _number(value: float, sign: bool = False) -> str:
    return "undefined" if math.isnan(value) else f"{value:{'+' * sign}.4f}"


def _p(value: float) -> str:
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
