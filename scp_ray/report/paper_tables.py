"""A sweep as a table in the form of the paper's Tables 1, 2 and Supplementary Tables 1 to 3.

Four rows a method, as printed there: both groups, their average, their difference. The columns on fairness belong to
the method and are repeated on its rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scp_ray.ledger import Sweep
from scp_ray.ledger.files import write_bytes
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.seeds import mean_over_seeds
from scp_ray.places import AnyPath
from scp_ray.report.paper_beside import Beside, beside, dataset_of, groups_of
from scp_ray.report.paper_entries import Entry, Model, against_base, entries_of
from scp_ray.report.paper_formats import latex, markdown
from scp_ray.report.paper_marks import MODELS, Marks, marks_of
from scp_ray.report.paper_numbers import ACCURACIES, Said
from scp_ray.report.paper_words import caption, notes

_FLOOR = {"floor": "floor_mean", "floor_low": "floor_low", "floor_high": "floor_high", "excess": "excess"}


@dataclass(frozen=True)
class PaperTable:
    """``frame``: a row per method and line (both groups, Avg, Diff); see ``paper_table``."""

    frame: pd.DataFrame
    split: str
    caption: str
    notes: list[str]


def paper_table(sweep: Sweep, split: str = "val") -> PaperTable:
    """The table of a sweep's finished trials at their selected rounds.

    Columns: method, arm, line, seeds, rounds, relative_to; ``precision``, ``recall``, ``f1`` and each gap as means over
    seeds, with ``_std``, ``_low``, ``_high`` (95 %) and ``_paper``; of gaps also ``_floor`` with its band, ``_excess``
    and ``_p``; ``fate_<gap>`` likewise, with ``_undefined``, how many seeds have none; ``f1_verdict``,
    ``f1_p_holm``, ``eodd_verdict``, ``eodd_p_holm`` against the models that FATE is relative to (Eodd by its excess).

    Intervals: of F1's average and of gaps those of ``maths.seeds``, with the seeds' standard errors in the evidence. Of
    precision, recall and single groups, whose images' share is not known, that of the spread between seeds alone. Of
    FATE the paired one, only where every baseline's gap lies above its noise floor.

    Test numbers are made of stored predictions: whoever asks for them has counted that. Raises LedgerError where they
    are gone.
    """
    entries, said = entries_of(sweep), Said(sweep, split)
    models = {model for entry in entries for model in (*entry.models.values(), *entry.baselines.values())}
    said.prepare(entries, floors=len(models) <= MODELS)
    marks = marks_of(entries, said)
    groups, codes = groups_of(sweep)
    printed = beside(dataset_of(sweep), entries, own=against_base(sweep))
    lines = (*zip(groups, (f"_group{code}" for code in codes), strict=True), ("Avg", ""), ("Diff", "_diff"))
    rows = []
    for entry in entries:
        fair = _fairness(entry, entries, said, marks, printed.get(entry.label))
        for place, (line, suffix) in enumerate(lines):
            shown = _accuracy(entry, said, suffix, place, printed.get(entry.label))
            rows.append(_about(entry, line) | shown | fair)
    frame = pd.DataFrame(rows)
    table = [*printed.values()]
    return PaperTable(
        frame, split, caption(sweep, split, frame, said, entries, marks, table), notes(sweep, frame, marks, models)
    )


def write_table(table: PaperTable, folder: AnyPath) -> list[AnyPath]:
    """table-<split>.csv, .md and .tex in ``folder``. Raises LedgerError."""
    texts = {
        "csv": table.frame.to_csv(index=False),
        "md": markdown(table.frame, table.caption, table.notes),
        "tex": latex(table.frame, table.caption, table.notes, label=f"tab:{table.split}"),
    }
    files = []
    for suffix, text in texts.items():
        files.append(folder / f"table-{table.split}.{suffix}")
        write_bytes(files[-1], text.encode())
    return files


def _about(entry: Entry, line: str) -> dict[str, Any]:
    rounds = sorted({model.round for model in entry.models.values()})
    return {
        "method": entry.label,
        "arm": entry.arm,
        "line": line,
        "seeds": len(entry.models),
        "rounds": " ".join(map(str, rounds)),
    }


def _accuracy(entry: Entry, said: Said, suffix: str, place: int, paper: Beside | None) -> dict[str, Any]:
    """Precision, recall and F1 on one line."""
    shown: dict[str, Any] = {}
    for name in ACCURACIES:
        values = _values(entry, said, name + suffix)
        errors = _errors(entry, said, "f1") if name + suffix == "f1" else None
        shown |= _spread(name, values, errors)
        shown[f"{name}_paper"] = float(paper.row.accuracy[name][place]) if paper else math.nan
    return shown


def _fairness(entry: Entry, entries: Sequence[Entry], said: Said, marks: Marks, paper: Beside | None) -> dict[str, Any]:
    """Every gap with its floor, every FATE, and what can be said of both."""
    models = [*entry.models.values()]
    shown: dict[str, Any] = {"relative_to": _named(entry.baselines, entries)}
    for gap in GAPS:
        shown |= _spread(gap, _values(entry, said, gap), _errors(entry, said, gap))
        for name, column in _FLOOR.items():
            shown[f"{gap}_{name}"] = _mean(np.array([said.evidence(model, gap, column) for model in models]))
        p_values = np.array([said.evidence(model, gap, "p") for model in models])
        shown[f"{gap}_p"] = float(np.median(p_values)) if len(p_values) else math.nan
        shown[f"{gap}_paper"] = float(paper.row.gap[gap]) if paper else math.nan
        shown |= _fate(entry, said, gap, marks)
        printed = paper.fates[gap] if paper else ""
        shown[f"fate_{gap}_paper"] = float(printed) if printed else math.nan
    words, p_holm = marks.words.get(entry.label, {}), marks.p.get(entry.label, {})
    for name, metric in (("f1", "f1"), ("eodd", "excess_eodd")):
        shown[f"{name}_verdict"] = words.get(metric, "")
        shown[f"{name}_p_holm"] = p_holm.get(metric, math.nan)
    return shown


def _fate(entry: Entry, said: Said, gap: str, marks: Marks) -> dict[str, Any]:
    """The mean over the seeds that have one, and an interval where no baseline's gap could be noise alone."""
    values = np.array([said.fate(entry.models[seed], entry.baselines[seed], gap) for seed in sorted(entry.models)])
    defined = values[~np.isnan(values)]
    bases = [*entry.baselines.values()]
    real = bool(bases) and all(said.number(b, gap) > said.evidence(b, gap, "floor_high") for b in bases)
    paired = marks.fates.get(entry.label, {}).get(gap)
    known = real and paired is not None
    return {
        f"fate_{gap}": _mean(defined),
        f"fate_{gap}_std": float(defined.std(ddof=1)) if len(defined) > 1 else math.nan,
        f"fate_{gap}_low": paired.low if known and paired else math.nan,
        f"fate_{gap}_high": paired.high if known and paired else math.nan,
        f"fate_{gap}_undefined": len(values) - len(defined),
        f"fate_{gap}_base_within_floor": bool(bases) and not real,
    }


def _values(entry: Entry, said: Said, name: str) -> NDArray[np.float64]:
    """(S,) a metric of each seed's model."""
    return np.array([said.number(entry.models[seed], name) for seed in sorted(entry.models)])


def _errors(entry: Entry, said: Said, metric: str) -> NDArray[np.float64]:
    """(S,) standard errors over images, as the evidence has them."""
    return np.array([said.evidence(entry.models[seed], metric, "standard_error") for seed in sorted(entry.models)])


def _spread(name: str, values: NDArray[np.float64], errors: NDArray[np.float64] | None) -> dict[str, float]:
    """Mean, standard deviation over seeds and 95 % interval of a metric (S,); errors (S,), or None: nobody knows."""
    mean, low, high = mean_over_seeds(values, errors)
    std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return {name: mean, f"{name}_std": std, f"{name}_low": low, f"{name}_high": high}


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _named(baselines: dict[int, Model], entries: Sequence[Entry]) -> str:
    """The row of these models."""
    for entry in entries:
        if entry.is_baseline and baselines and baselines.items() <= entry.models.items():
            return entry.label
    return ""
