"""What the paper prints of the methods that a sweep has run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.paper_entries import Entry
from scp_ray.report.published import GAPS, TABLES, Printed, printed

# the data sets of the paper, each with the option that makes its groups or classes those of the paper
_DATASETS = {"fitzpatrick17k": ("Fitzpatrick-17k", "label_level", "low"), "isic2019": ("ISIC 2019", "sensitive", "sex")}


@dataclass(frozen=True)
class Beside:
    """One row's printed figures; ``fates`` are empty where the paper's are relative to another baseline."""

    row: Printed
    fates: dict[str, str]


def dataset_of(sweep: Sweep) -> str:
    """The paper's name of the data set that every arm has; empty where it is none of the paper's."""
    names = {_paper_name(arm["config"].get("dataset", {})) for arm in sweep.definition["arms"]}
    return names.pop() if len(names) == 1 else ""


def beside(dataset: str, entries: Sequence[Entry], *, own: bool) -> dict[str, Beside]:
    """By row's label what the paper prints of that method on that data set; not of methods that it does not have.

    ``own``: whether FATE is relative to each method's own models (``against_base``).
    """
    rows = [row for row in printed() if TABLES[row.table].dataset == dataset]
    found = {}
    for entry in entries:
        baseline = entry.method if own else "vanilla"
        named = [row for row in rows if entry.published and row.name == entry.published]
        fitting = [row for row in named if _baseline_name(row) == baseline]
        if named:
            row = (fitting or named)[0]
            found[entry.label] = Beside(row, dict(row.fate) if fitting else dict.fromkeys(GAPS, ""))
    return found


def groups_of(sweep: Sweep) -> tuple[tuple[str, str], tuple[int, int]]:
    """What the two groups are called and their codes, in the order of the paper's tables where it has them."""
    configs = [arm["config"]["dataset"] for arm in sweep.definition["arms"] if "dataset" in arm["config"]]
    if dataset := dataset_of(sweep) if configs else "":
        heading = next(heading for heading in TABLES.values() if heading.dataset == dataset)
        return heading.groups, heading.codes
    attributes = {_attribute(config) for config in configs}
    word = attributes.pop() if len(attributes) == 1 else "group"
    return (f"{word} 0", f"{word} 1"), (0, 1)


def published_points(dataset: str) -> pd.DataFrame:
    """What the paper prints of every method on this data set (``dataset_of``): method, f1, eodd; of the test split.

    A method that several tables print with the same figures is one row.
    """
    rows = [row for row in printed() if TABLES[row.table].dataset == dataset]
    found = [{"method": row.method, "f1": float(row.f1), "eodd": float(row.gap["eodd"])} for row in rows]
    return pd.DataFrame(found, columns=["method", "f1", "eodd"]).drop_duplicates(ignore_index=True)


def _paper_name(config: Mapping[str, Any]) -> str:
    name, option, value = _DATASETS.get(str(config.get("name")), ("", "", ""))
    return name if not option or config.get(option, value) == value else ""


def _attribute(config: Mapping[str, Any]) -> str:
    return str(config.get("sensitive") or config.get("group") or "group")


def _baseline_name(row: Printed) -> str:
    return next(other.name for other in printed() if other.method == row.baseline)
