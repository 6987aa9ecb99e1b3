"""The figures that the paper's tables print, digit for digit, and the noise floors of its two test tables.

published_results.csv: a row per table and method; ``precision``, ``recall`` and ``f1`` hold four figures, of the two
groups in the table's order, their average and their difference. Source: Kong et al., MICCAI 2024, and its supplement.
published_floors.csv: what fair classifiers of about the paper's accuracy show on the published test tables, made by
``benchmarks/published_floors.py``. The paper prints no predictions, so its own models' floors cannot be had.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from scp_ray.errors import UnknownNameError

GAPS = ("eopp0", "eopp1", "eodd")  # as maths.gaps has them, which would bring numpy along
ACCURACIES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Heading:
    """What a table is about. ``groups`` in the table's order, the privileged one first; ``codes`` are ours of them."""

    name: str
    title: str
    dataset: str
    backbone: str
    attribute: str
    groups: tuple[str, str]
    codes: tuple[int, int]

    @property
    def lines(self) -> tuple[str, str, str, str]:
        """What the four figures of a method are of."""
        return (*self.groups, "Avg", "Diff")


_FITZPATRICK = ("Fitzpatrick-17k", "VGG-11", "skin tone", ("Dark", "Light"), (1, 0))
_ISIC = ("ISIC 2019", "ResNet-18", "gender", ("Female", "Male"), (0, 1))
TABLES = {
    "table1": Heading("table1", "Table 1", *_FITZPATRICK),
    "table2": Heading("table2", "Table 2", *_ISIC),
    "supp1": Heading("supp1", "Supplementary Table 1", *_FITZPATRICK),
    "supp2": Heading("supp2", "Supplementary Table 2", *_ISIC),
    "supp3": Heading("supp3", "Supplementary Table 3", *_FITZPATRICK),
}


@dataclass(frozen=True)
class Printed:
    """One method of one table, as printed: the audit rests on how many digits there are."""

    table: str  # of TABLES
    method: str
    name: str  # ours: "scp-fairprune"
    baseline: str  # the method that its FATE is relative to
    accuracy: dict[str, tuple[str, ...]]  # by ACCURACIES, (4,) in the order of Heading.lines
    gap: dict[str, str]  # by GAPS
    fate: dict[str, str]  # by GAPS

    @property
    def f1(self) -> str:
        """The mean of the two groups', which FATE rests on."""
        return self.accuracy["f1"][2]


@dataclass(frozen=True)
class Floor:
    """Of one gap on one test table: mean and 95 % band of the permutation null of fair classifiers."""

    dataset: str
    gap: str
    mean: float
    low: float
    high: float
    accuracy: float  # of the classifiers
    n: int
    units: int

    def position(self, low: float, high: float) -> str:
        """Where a gap lies that is known to be ``low`` to ``high``: above or below the band, else within it."""
        return "above" if low > self.high else "below" if high < self.low else "within"


def find_table(asked: str) -> str:
    """The table that is meant by "table1", "Table 1", "supp3" or a shipped space such as "table1-fitzpatrick".

    Raises UnknownNameError.
    """
    plain = "".join(asked.lower().replace("supplementary", "supp").replace("supplement", "supp").split())
    plain = plain.replace("supptable", "supp").partition("-")[0]
    if plain not in TABLES:
        raise UnknownNameError("table", asked, TABLES)
    return plain


@cache
def printed() -> tuple[Printed, ...]:
    """Every method of every table, in the paper's order."""
    return tuple(
        Printed(
            row["table"],
            row["method"],
            row["name"],
            row["baseline"],
            accuracy={key: tuple(row[key].split()) for key in ACCURACIES},
            gap={gap: row[gap] for gap in GAPS},
            fate={gap: row[f"fate_{gap}"] for gap in GAPS},
        )
        for row in _rows("published_results.csv")
    )


@cache
def floors() -> dict[tuple[str, str], Floor]:
    """By data set and gap."""
    found = {}
    for row in _rows("published_floors.csv"):
        mean, low, high, accuracy = (float(row[key]) for key in ("mean", "low", "high", "accuracy"))
        floor = Floor(row["dataset"], row["gap"], mean, low, high, accuracy, int(row["n"]), int(row["units"]))
        found[floor.dataset, floor.gap] = floor
    return found


def _rows(name: str) -> list[dict[str, str]]:
    text = (resources.files("scp_ray.report") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
