"""Does what the paper prints follow from what it prints beside it? FATE from F1 and gaps, Diff from the group rows.

A printed figure stands for all values that round to it. What can be computed from such figures is an interval, and a
printed result agrees where the interval of its own rounding meets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from scp_ray.report.published import ACCURACIES, GAPS, TABLES, Floor, Printed, floors, printed

_EQUAL = 1e-4  # FATE is printed to four digits


@dataclass(frozen=True)
class FateCell:
    """A printed FATE beside what its own columns allow."""

    table: str  # title
    method: str
    gap: str
    printed: float
    from_digits: float  # FATE of the figures as they are printed
    low: float  # attainable, figures varied by half a unit of their last digit
    high: float
    agrees: bool

    @property
    def equal(self) -> bool:
        """Whether it is FATE of the rounded figures themselves."""
        return abs(self.printed - self.from_digits) <= _EQUAL


@dataclass(frozen=True)
class GapCell:
    """A printed gap beside the noise floor of its test table."""

    table: str
    method: str
    gap: str
    printed: float
    floor: Floor
    position: str  # above or below the floor's band wherever it lies within its rounding, else within


@dataclass(frozen=True)
class SpreadCell:
    """A printed Diff that the two group rows above it do not give, however they were rounded."""

    table: str
    method: str
    metric: str
    printed: float
    low: float
    high: float


def fate_cells(rows: tuple[Printed, ...] | None = None) -> list[FateCell]:
    """Every FATE that is not the baseline's own: 69 of the five tables."""
    rows = printed() if rows is None else rows
    return [_fate_cell(row, gap) for row in rows if row.method != row.baseline for gap in GAPS]


def gap_cells(rows: tuple[Printed, ...] | None = None) -> list[GapCell]:
    """Every gap of every method, the baselines' too."""
    rows = printed() if rows is None else rows
    return [_gap_cell(row, gap) for row in rows for gap in GAPS]


def spread_cells(rows: tuple[Printed, ...] | None = None) -> list[SpreadCell]:
    """Every Diff that does not follow from its group rows within rounding."""
    found = []
    for row in printed() if rows is None else rows:
        for metric in ACCURACIES:
            first, second, _, spread = row.accuracy[metric]
            centre = abs(Decimal(first) - Decimal(second))
            slack = _half(first) + _half(second)
            if abs(Decimal(spread) - centre) > slack + _half(spread):
                low, high = float(max(Decimal(0), centre - slack)), float(centre + slack)
                found.append(SpreadCell(TABLES[row.table].title, row.method, metric, float(spread), low, high))
    return found


def copies(rows: tuple[Printed, ...] | None = None) -> list[tuple[Printed, Printed]]:
    """Two methods of different names whose every figure is the same, on one data set."""
    rows = printed() if rows is None else rows
    return [
        (first, second)
        for place, first in enumerate(rows)
        for second in rows[place + 1 :]
        if first.name != second.name
        and (first.accuracy, first.gap, first.fate) == (second.accuracy, second.gap, second.fate)
    ]


def _fate_cell(row: Printed, gap: str) -> FateCell:
    base = _baseline(row)
    f1, gap_m, f1_base, gap_base = row.f1, row.gap[gap], base.f1, base.gap[gap]
    low = _ratio(f1, f1_base, -1) - _ratio(gap_m, gap_base, +1)
    high = _ratio(f1, f1_base, +1) - _ratio(gap_m, gap_base, -1)
    told, slack = float(row.fate[gap]), float(_half(row.fate[gap]))
    return FateCell(
        table=TABLES[row.table].title,
        method=row.method,
        gap=gap,
        printed=told,
        from_digits=_ratio(f1, f1_base, 0) - _ratio(gap_m, gap_base, 0),
        low=low,
        high=high,
        agrees=low <= told + slack and told - slack <= high,
    )


def _gap_cell(row: Printed, gap: str) -> GapCell:
    floor = floors()[TABLES[row.table].dataset, gap]
    told, slack = float(row.gap[gap]), float(_half(row.gap[gap]))
    return GapCell(TABLES[row.table].title, row.method, gap, told, floor, floor.position(told - slack, told + slack))


def _baseline(row: Printed) -> Printed:
    """The method of that name in the same table, else in the one that it is printed in for the same data set."""
    named = [other for other in printed() if other.method == row.baseline]
    here = [other for other in named if other.table == row.table]
    dataset = TABLES[row.table].dataset
    return (here or [other for other in named if TABLES[other.table].dataset == dataset])[0]


def _ratio(top: str, bottom: str, toward: int) -> float:
    """Of two printed figures; -1 and +1: the least and the greatest that rounds to them."""
    return float((Decimal(top) + toward * _half(top)) / (Decimal(bottom) - toward * _half(bottom)))


def _half(figure: str) -> Decimal:
    """Half a unit of the last printed digit."""
    exponent = Decimal(figure).as_tuple().exponent
    assert isinstance(exponent, int)  # a printed figure is finite
    return Decimal(1).scaleb(exponent) / 2
