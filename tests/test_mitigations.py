"""The table of docs/methods.md: its intervals, and p over all of its differences."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from scipy import stats

from benchmarks.mitigations import table

BEFORE = 0.5  # vanilla's gap alone, at every seed


def seeds(f1: float, *narrower: float) -> pd.DataFrame:
    return pd.DataFrame({"val_f1": f1, "val_eodd": [BEFORE - each for each in narrower]}, index=range(len(narrower)))


def test_p_of_each_difference_is_corrected_for_all_of_the_table() -> None:
    """Two degrees of freedom: p = 1 - t / sqrt(2 + t^2), and half an interval is 4.3027 standard errors.

    0.1, 0.2, 0.3 have t = 3.4641 and p = 0.07418; -0.1, -0.1, -0.4 have t = -2 and p = 0.18350; 0.09, 0.10, 0.11 have
    t = 17.3205 and p = 0.003317. Holm: three, two and one times those.
    """
    arms = {
        "vanilla": [seeds(0.8, 0, 0, 0), seeds(0.9, 0.1, 0.2, 0.3)],
        "other": [seeds(0.7, -0.1, -0.1, -0.4), seeds(0.6, 0.11, 0.10, 0.09)],
    }
    assert table(arms)[2:] == [
        "| vanilla | 0.800 | 0.500 | - | - | 0.900 | 0.300 | +0.200 (-0.048 to +0.448) | 0.148 |",
        "| other | 0.700 | 0.700 | -0.200 (-0.630 to +0.230) | 0.184 "
        "| 0.600 | 0.400 | +0.100 (+0.075 to +0.125) | 0.010 |",
    ]
    assert {line.count("|") for line in table(arms)} == {10}


def test_one_seed_has_neither() -> None:
    (row,) = table({"vanilla": [seeds(0.8, 0), seeds(0.9, 0.1)]})[2:]
    assert row == "| vanilla | 0.800 | 0.500 | - | - | 0.900 | 0.400 | - | - |"


def test_p_on_the_page_follows_from_the_intervals_on_it() -> None:
    """By t with 4 degrees of freedom, and Holm's definition written out."""
    page = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")
    number = r"([+-]\d\.\d{3})"
    cells = re.findall(rf"{number} \({number} to {number}\) \| (\d\.\d{{3}}) \|", page)
    assert len(cells) == 23
    found = []
    for mean, low, high, told in cells:
        error = (float(high) - float(low)) / 2 / stats.t.ppf(0.975, 4)
        found.append((2 * stats.t.sf(abs(float(mean)) / error, 4), told))
    found.sort()
    steps = [min(1.0, p * (23 - place)) for place, (p, _) in enumerate(found)]
    assert [told for _, told in found] == [f"{max(steps[: place + 1]):.3f}" for place in range(23)]
