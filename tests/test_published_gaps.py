"""The paper's gaps beside their floors, and its points of the trade-off plane: by pandas from the two data files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from three_arms import make

from scp_ray.ledger import load_sweep
from scp_ray.report.figures.drawn import Undrawn, drawn_or_why
from scp_ray.report.figures.fate_by_axis import fate_by_axis
from scp_ray.report.figures.of_report import fate_by_arm
from scp_ray.report.figures.published_gaps import gap_table, published_gaps
from scp_ray.report.paper_beside import published_points

REPORT = Path(__file__).parents[1] / "scp_ray" / "report"
FITZPATRICK, ISIC = "Fitzpatrick-17k", "ISIC 2019"
DATASETS = {"table1": FITZPATRICK, "supp1": FITZPATRICK, "supp3": FITZPATRICK, "table2": ISIC, "supp2": ISIC}


@pytest.fixture
def figures() -> pd.DataFrame:
    rows = pd.read_csv(REPORT / "published_results.csv", dtype=str)
    return rows.assign(dataset=rows["table"].map(DATASETS), f1=rows["f1"].str.split().str[2])


@pytest.mark.parametrize("gap", ["eopp0", "eopp1", "eodd"])
def test_positions_are_those_of_the_rounded_figures(figures: pd.DataFrame, gap: str) -> None:
    """Above: the least value that rounds to it lies above the band; below: the greatest lies below."""
    floors = pd.read_csv(REPORT / "published_floors.csv").query("gap == @gap").set_index("dataset")
    half = figures[gap].str.partition(".")[2].str.len().map(lambda digits: 0.5 * 10.0**-digits)
    value, band = figures[gap].astype(float), floors.loc[figures["dataset"]]
    above, below = (value - half).to_numpy() > band["high"], (value + half).to_numpy() < band["low"]
    expected = np.select([above, below], ["above", "below"], "within")
    table = gap_table(gap)
    assert table["position"].tolist() == expected.tolist()
    assert table["printed"].tolist() == value.tolist() and table["dataset"].tolist() == figures["dataset"].tolist()


def test_the_figure_has_a_panel_per_test_table_and_a_marker_per_method(figures: pd.DataFrame) -> None:
    drawn = published_gaps()
    panels = drawn.figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == [FITZPATRICK, ISIC]
    for axes in panels:
        own = figures[figures["dataset"] == axes.get_title(loc="left")]["eodd"].astype(float)
        marked = [x for line in axes.lines if line.get_marker() in ("o", "^", "v") for x in line.get_xdata()]
        assert sorted(marked) == sorted(own)
        assert len(axes.get_yticklabels()) == len(own)
        assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > own.max()
    assert "n = 1,657 images" in drawn.caption and "n = 4,971 images" in drawn.caption and "Test split" in drawn.caption


def test_points_of_the_plane_are_each_methods_printed_means(figures: pd.DataFrame) -> None:
    for dataset in (FITZPATRICK, ISIC):
        own = figures[figures["dataset"] == dataset]
        expected = set(zip(own["method"], own["f1"].astype(float), own["eodd"].astype(float), strict=True))
        points = published_points(dataset)
        assert set(points.itertuples(index=False, name=None)) == expected and len(points) == len(expected)
    assert list(published_points("")) == ["method", "f1", "eodd"] and not len(published_points(""))


def test_a_notebook_gets_the_picture_with_its_caption_at_a_readable_size(tmp_path: Path) -> None:
    """7 inches: 2,100 pixels, shown as 875; the caption is below the figure's own 4.6 inches."""
    drawn = fate_by_arm(load_sweep(make(tmp_path / "sweep")))
    picture, size = drawn._repr_png_()
    width, height = Image.open(io.BytesIO(picture)).size
    assert width == 7 * 300 and size == {"width": 875}
    assert height > 4.6 * 300 + 50
    assert (drawn.figure.get_size_inches() == (7.0, 4.6)).all()


def test_what_is_not_drawn_says_why(tmp_path: Path) -> None:
    sweep = load_sweep(make(tmp_path / "sweep"))
    found = drawn_or_why(fate_by_axis, sweep, "backbone")
    assert isinstance(found, Undrawn) and not len(found.data)
    assert repr(found) == "Not drawn: backbone does not vary; what does: pr_c, layer."
    with pytest.raises(TypeError):
        drawn_or_why(fate_by_axis, sweep)
