"""The heat map's cells against the numbers of figured_sweep.py."""

from __future__ import annotations

import figured_sweep
import numpy as np
import pytest
from figured_sweep import texts

from scp_ray.ledger import Sweep, load_sweep
from scp_ray.report.figures.heat_map import heat_map


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return load_sweep(figured_sweep.make(tmp_path_factory.mktemp("figured") / "sweep"))


def test_the_heat_map_writes_its_numbers(sweep):
    drawn = heat_map(sweep)
    fate, f1, eodd = drawn.figure.axes
    assert [axes.get_title(loc="left") for axes in (fate, f1, eodd)] == ["FATE of Eodd", "F1", "Eodd"]
    assert [tick.get_text() for tick in fate.get_yticklabels()] == ["0.1", "0.2"]
    assert [tick.get_text() for tick in f1.get_xticklabels()] == ["-2", "-1"]
    cells = {text.get_position(): text.get_text().splitlines()[0] for text in f1.texts}
    assert cells == {(1, 0): "0.500", (1, 1): "0.600", (0, 0): "0.560", (0, 1): "0.580"}
    cells = {text.get_position(): text.get_text() for text in eodd.texts}
    assert {place: text.splitlines()[0] for place, text in cells.items()} == {
        (1, 0): "0.140", (1, 1): "0.120", (0, 0): "≈0.080", (0, 1): "0.090",
    }  # fmt: skip
    # 1.02 / 0.5 and so on: 0.58 / 0.5 - 0.09 / 0.2 = 0.71, its seeds 0.005 apart
    assert {text.get_position(): text.get_text() for text in fate.texts}[0, 1] == "0.71\n± 0.01"


def test_cells_are_held_against_their_own_floor_not_the_bases(tmp_path):
    """The base's reaches to 0.13: above one of the cells within their own floor, below two of those that are not."""
    highs = {0: 0.15, 1: 0.11, 2: 0.10, 3: 0.085}  # Eodd is 0.14, 0.12, 0.08 and 0.09
    drawn = heat_map(load_sweep(figured_sweep.make(tmp_path / "sweep", floor=(0.05, 0.02, 0.13), high=highs)))
    assert drawn.data["within"].tolist() == [True, False, True, False]
    assert {text.split("\n")[0] for text in texts(drawn.figure.axes[2])} == {"≈0.140", "0.120", "≈0.080", "0.090"}
    assert "≈: Eodd not to be told from the noise floor of the cell's own models" in drawn.caption


def test_cells_say_where_the_base_itself_is_within_its_floor(tmp_path):
    drawn = heat_map(load_sweep(figured_sweep.make(tmp_path / "sweep", floor=(0.15, 0.05, 0.25))))
    assert all(text.startswith("*") for text in texts(drawn.figure.axes[0]))
    assert "FATE divides by noise" in drawn.caption


def test_letters_in_cells_can_be_read(sweep):
    """WCAG 2: 4.5 to 1 at least between the letters and the cell's own colour, as matplotlib has rendered it."""
    drawn = heat_map(sweep)
    for axes in drawn.figure.axes:
        image = axes.images[0]
        for text in axes.texts:
            x, y = text.get_position()
            cell = image.to_rgba(image.get_array())[y, x][:3]
            linear = np.where(cell <= 0.04045, cell / 12.92, ((cell + 0.055) / 1.055) ** 2.4)
            luminance = float(linear @ [0.2126, 0.7152, 0.0722])
            letters = 1.0 if text.get_color() == "white" else 0.0
            bright, dark = max(letters, luminance), min(letters, luminance)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5
