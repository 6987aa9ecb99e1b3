"""scp-ray published: the paper's figures, and the audit of methods.md 14 beside its own printed table."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asking import ask

from scp_ray.report.published import GAPS, TABLES, find_table, floors, printed
from scp_ray.report.published_audit import fate_cells, gap_cells, spread_cells

ROOT = Path(__file__).parents[1]
SCP, FAIRPRUNE = "SCP-FairPrune (prc=2%, n=3)", "FairPrune (pr=35%, beta=0.33)"
# methods.md 14.1: cell, printed, the value from printed digits, and the attainable interval where one is given
DISAGREE: list[tuple[str, str, str, float, float, tuple[float, float] | None]] = [
    ("Table 1", "HSIC", "eopp1", 0.1235, 0.0635, (0.0589, 0.0681)),
    ("Table 1", "HSIC", "eodd", 0.1305, 0.0683, (0.0611, 0.0755)),
    ("Table 2", "HSIC", "eopp0", 0.8194, -0.3810, None),
    ("Table 2", "MFD", "eopp0", 0.9171, 0.1667, None),
    ("Table 2", "FairAdaBN", "eopp0", 0.9273, 0.1776, None),
    ("Table 2", FAIRPRUNE, "eopp0", 0.8729, -0.1776, None),
    ("Table 2", "ME-FairPrune", "eopp0", 0.9018, 0.0014, None),
    ("Table 2", SCP, "eopp0", 0.9018, 0.0014, None),
    ("Supplementary Table 2", "AdvConf", "eopp0", 0.8684, -0.3320, None),
    ("Supplementary Table 2", "AdvRef", "eopp0", 0.8674, -0.1830, None),
    ("Supplementary Table 2", "AdvRef", "eopp1", -0.5700, -0.3572, (-0.3855, -0.3296)),
    ("Supplementary Table 2", "DomainIndep", "eopp0", 0.8106, -0.6898, None),
    ("Supplementary Table 2", SCP, "eopp0", 0.9018, 0.0014, None),
]
# table: cells, agree, equal to the value from printed digits
COUNTS = {
    "Table 1": (18, 16, 13),
    "Table 2": (18, 12, 0),
    "Supplementary Table 1": (15, 15, 15),
    "Supplementary Table 2": (12, 7, 0),
    "Supplementary Table 3": (6, 6, 4),
}


def test_thirteen_of_69_cells_do_not_follow_from_their_own_columns() -> None:
    cells = {(cell.table, cell.method, cell.gap): cell for cell in fate_cells()}
    assert len(cells) == len(fate_cells()) == 69
    assert {place for place, cell in cells.items() if not cell.agrees} == {row[:3] for row in DISAGREE}
    for *place, told, from_digits, attainable in DISAGREE:
        cell = cells[tuple(place)]
        assert cell.printed == told
        assert cell.from_digits == pytest.approx(from_digits, abs=0.5e-4)
        if attainable:
            assert (cell.low, cell.high) == pytest.approx(attainable, abs=0.5e-4)
        assert not cell.low - 0.5e-4 <= told <= cell.high + 0.5e-4
    for title, (count, agree, equal) in COUNTS.items():
        found = [cell for cell in cells.values() if cell.table == title]
        assert (len(found), sum(c.agrees for c in found), sum(c.equal for c in found)) == (count, agree, equal)


def test_an_interval_holds_the_fate_of_whatever_rounds_to_the_digits() -> None:
    """The corners of the box of roundings, taken one by one: FATE is monotonous in each of the four."""
    row = next(row for row in printed() if (row.table, row.method) == ("table2", FAIRPRUNE))
    assert (row.f1, row.gap["eopp0"]) == ("0.727", "0.007")
    found = [
        (0.727 + a * 0.0005) / (0.735 + b * 0.0005) - (0.007 + c * 0.0005) / (0.006 + d * 0.0005)
        for a in (-1, 1) for b in (-1, 1) for c in (-1, 1) for d in (-1, 1)
    ]  # fmt: skip
    cell = next(c for c in fate_cells() if (c.table, c.method, c.gap) == ("Table 2", FAIRPRUNE, "eopp0"))
    assert (cell.low, cell.high) == pytest.approx((min(found), max(found)), abs=1e-12)


def test_the_number_of_printed_digits_counts() -> None:
    """0.0013 is known to half of 0.0001, 0.361 to half of 0.001."""
    cells = {c.gap: c for c in fate_cells() if (c.table, c.method) == ("Table 1", "MFD")}
    assert cells["eopp0"].low == pytest.approx(0.4795 / 0.5105 - 0.00115 / 0.00125, abs=1e-12)
    assert cells["eopp1"].high == pytest.approx(0.4805 / 0.5095 - 0.3335 / 0.3615, abs=1e-12)


def test_diffs_that_their_group_rows_do_not_give() -> None:
    """methods.md 14.3."""
    found = {(cell.table, cell.method): [] for cell in spread_cells()}  # type: dict[tuple[str, str], list[str]]
    for cell in spread_cells():
        found[cell.table, cell.method].append(cell.metric)
    every = ["precision", "recall", "f1"]
    assert found == {
        ("Table 1", "HSIC"): every,
        ("Table 1", "FairAdaBN"): every[:2],
        ("Table 2", "FairAdaBN"): every[:1],
        ("Supplementary Table 1", "DomainIndep"): every,
        ("Supplementary Table 3", "HSIC"): every,
    }


def test_every_figure_is_the_transcribed_one(shared: Path) -> None:
    with (shared / "data" / "published_results.csv").open(newline="", encoding="utf-8") as source:
        theirs = list(csv.DictReader(source))
    ours = []
    for row in printed():
        for place, line in enumerate(TABLES[row.table].lines):
            name = {"Avg": "avg", "Diff": "diff"}.get(line, line)
            figures = {metric: values[place] for metric, values in row.accuracy.items()}
            fair = {gap: row.gap[gap] for gap in GAPS} | {f"{gap}_fate": row.fate[gap] for gap in GAPS}
            heading = TABLES[row.table]
            about = {"dataset": heading.dataset, "backbone": heading.backbone, "group": name, "method": row.method}
            about |= {"source_table": heading.title, "sensitive_attribute": heading.attribute}
            ours.append(about | figures | fair | {"fate_baseline": row.baseline})
    assert ours == theirs


def test_the_floors_are_those_of_the_published_tables(published: Path) -> None:
    """evidence.md: Eodd 0.159 to 0.160 on Fitzpatrick-17k, 0.025 (0.012 to 0.041) on ISIC 2019. One is made again."""
    from benchmarks.planted_arms import read_table
    from benchmarks.published_floors import rows

    assert floors()["Fitzpatrick-17k", "eodd"].mean == pytest.approx(0.1595, abs=0.001)
    isic = floors()["ISIC 2019", "eodd"]
    assert (isic.mean, isic.low, isic.high) == pytest.approx((0.025, 0.012, 0.041), abs=0.001)
    table = read_table("isic", published)
    again = {row[1]: row for row in rows(table, classifiers=8, permutations=200)}
    for gap in GAPS:
        kept = floors()["ISIC 2019", gap]
        assert again[gap][2:5] == pytest.approx((kept.mean, kept.low, kept.high), rel=0.15)
        assert again[gap][5:8] == (kept.accuracy, kept.n, kept.units)
    lesions = {row["lesion_id"] or row["image"] for row in _read(published / "isic2019_test_pretraining.csv")}
    assert (isic.n, isic.units) == (4971, len(lesions))


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as source:
        return list(csv.DictReader(source))


def test_where_gaps_lie_against_the_floor() -> None:
    """Of evidence.md's rows: vanilla 0.182 above 0.143 to 0.177, SCP-FairPrune's 0.139 below, the others within."""
    found = {(c.table, c.method): c.position for c in gap_cells() if c.gap == "eodd"}
    table1 = [position for (table, _), position in found.items() if table == "Table 1"]
    assert table1 == ["above", *["within"] * 5, "below"]
    assert found["Table 2", "ResNet-18"] == "within"


def test_a_gap_whose_rounding_reaches_into_the_band_is_within() -> None:
    floor = floors()["ISIC 2019", "eopp0"]
    assert 0.0055 < floor.high < 0.0065
    by_method = {c.method: c.position for c in gap_cells() if (c.table, c.gap) == ("Table 2", "eopp0")}
    assert (by_method["ResNet-18"], by_method["HSIC"]) == ("within", "above")


def test_the_command_as_one_object() -> None:
    told: dict[str, Any] = ask("published", "--json").json
    assert (told["cells"], told["agree"], told["equal_to_rounded"]) == (69, 56, 32)
    assert [(row["table"], row["method"], row["gap"], row["printed"]) for row in told["disagree"]] == [
        row[:4] for row in DISAGREE
    ]
    assert all(set(row) == {"table", "method", "gap", "printed", "attainable"} for row in told["disagree"])
    assert told["disagree"][0]["attainable"] == pytest.approx([0.0589, 0.0681], abs=0.5e-4)
    assert told["copies"] == [
        [{"table": "Table 1", "method": "MFD"}, {"table": "Supplementary Table 1", "method": "AdvRef"}]
    ]
    assert len(told["floors"]) == 27 * 3


def test_one_table_by_any_of_its_names() -> None:
    for asked in ("supp2", "Supplementary Table 2", "supplement 2", "Supp2"):
        assert find_table(asked) == "supp2"
    assert find_table("table1-fitzpatrick") == find_table("Table 1") == "table1"
    told = ask("published", "--table", "supp2", "--json").json
    assert (told["cells"], told["agree"], len(told["disagree"])) == (12, 7, 5)
    wrong = ask("published", "--table", "tabel1")
    assert wrong.code == 2
    assert "Did you mean 'table1'?" in wrong.err
    assert "supp3" in wrong.err


def test_the_page_of_text_shows_every_figure_and_marks_what_is_wrong() -> None:
    answer = ask("published")
    assert answer.code == 0
    for row in printed():
        assert row.method in answer.out
    lines = answer.out.splitlines()
    marked = [mark for line in lines for mark in re.findall(r"\d x(?=\s|$)", line)]
    assert len(marked) == 13
    assert "x HSIC: FATE of Eopp1 0.1235; its own columns allow 0.0589 to 0.0681." in lines
    assert "69 cells of FATE: 56 agree" in answer.out
    assert max(map(len, lines)) <= 140


def test_it_starts_without_anything_heavy() -> None:
    code = (
        "import sys\nfrom scp_ray.cli.main import main\nmain(['published', '--json'])\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'pyarrow', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_the_figures_go_into_the_wheel() -> None:
    """hatchling takes every file of the package that git does not ignore."""
    ignored = subprocess.run(
        ["git", "check-ignore", "scp_ray/report/published_results.csv", "scp_ray/report/published_floors.csv"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert ignored.stdout == ""
