"""How figures look and what is written of them: sizes, letters, ground, caption, files."""

from __future__ import annotations

import io
import itertools
import warnings
import xml.etree.ElementTree as ElementTree

import figured_sweep
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from scp_ray.ledger import load_sweep
from scp_ray.report.figures.all import all_figures
from scp_ray.report.figures.drawn import DOTS, Drawn, picture_of, save_drawn, svg_of
from scp_ray.report.figures.style import COLOURS, DOUBLE, SINGLE, captioned, is_dark, look, new_figure, styled
from scp_ray.report.figures.trade_off import trade_off

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Drawn]:
    """Of three seeds, and of one."""
    root = tmp_path_factory.mktemp("files")
    made = [figured_sweep.make(root / str(len(seeds)), seeds=seeds) for seeds in (figured_sweep.SEEDS, (0,))]
    return [each for path in made for each in all_figures(load_sweep(path), maps=False)[0]]


def test_figures_are_one_or_two_columns_wide(drawn):
    for each in drawn:
        width, height = each.figure.get_size_inches()
        assert width in (SINGLE, DOUBLE), each.name
        assert height <= 9.5, each.name  # a page


def test_letters_are_at_least_six_points_at_column_width(drawn):
    for each in drawn:
        small = [text.get_text() for text in each.figure.findobj(Text) if text.get_text() and text.get_fontsize() < 6]
        assert small == [], each.name


def test_no_letters_are_cut_off_or_lie_on_each_other(drawn):
    """Tick labels, titles and axis labels stay inside the figure; labels of one axis do not touch."""
    for each in drawn:
        each.figure.draw_without_rendering()
        box, (width, height) = each.figure.get_tightbbox(), each.figure.get_size_inches()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01, each.name
        for axes in each.figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                shown = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
                places = [label.get_window_extent() for label in shown if label.get_visible() and label.get_text()]
                assert not any(a.overlaps(b) for a, b in itertools.combinations(places, 2)), each.name


def test_every_line_looks_different_in_more_than_its_colour():
    looks = [look(place) for place in range(28)]
    assert len({(each["color"], each["linestyle"]) for each in looks}) == 28
    # the first seven of one dash differ in marker too, so that grey print tells them apart
    assert len({each["marker"] for each in looks[: len(COLOURS)]}) == len(COLOURS)


@pytest.mark.parametrize(("colour", "dark"), [((1, 1, 1), False), ((0, 0, 0), True), ((0.5, 0.5, 0.5), False)])
def test_letters_are_white_where_that_has_more_contrast(colour, dark):
    # mid grey has luminance 0.214: white letters have a contrast of 1.05 / 0.264 = 3.98, black ones 0.264 / 0.05 = 5.28
    assert is_dark(*colour) == dark


def test_the_style_is_put_back():
    before = dict(matplotlib.rcParams)

    @styled
    def draw() -> float:
        return matplotlib.rcParams["font.size"]

    assert draw() == 7.5
    assert dict(matplotlib.rcParams) == before


def test_a_caption_takes_room_of_its_own_and_is_gone_afterwards():
    figure = new_figure(SINGLE, 2.0)
    figure.add_subplot()
    text = "word " * 60
    with captioned(figure, text):
        width, height = figure.get_size_inches()
        figure.draw_without_rendering()
        caption = figure.texts[0]
        assert " ".join(caption.get_text().split()) == text.strip()
        box = caption.get_window_extent()
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.axes[0].get_tightbbox().y0
    assert width == SINGLE
    assert height > 2.0
    assert figure.get_size_inches().tolist() == [SINGLE, 2.0]
    assert figure.texts == []


def test_saved_files(drawn, tmp_path):
    with matplotlib.rc_context({"savefig.facecolor": "none"}):  # whatever a user's own style says
        paths = save_drawn(drawn[0], tmp_path)
    assert [path.name for path in paths] == ["trade-off.png", "trade-off.svg", "trade-off.csv"]
    picture = Image.open(paths[0])
    assert picture.width == SINGLE * DOTS
    assert picture.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 255)  # a dark page does not shine through
    root = ElementTree.parse(paths[1]).getroot()
    words = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
    assert "F1 (higher is better)" in words
    assert "Validation split, n = 120 images" in words
    assert pd.read_csv(paths[2])["f1"][:4].tolist() == pytest.approx(list(figured_sweep.F1))


def test_the_svg_of_a_page_has_no_caption_and_falls_back_on_any_sans_serif(drawn):
    text = svg_of(drawn[0])
    assert text.startswith("<svg")
    assert "Validation split" not in text
    assert "sans-serif" in text
    ElementTree.fromstring(text)


def test_pictures_are_the_same_in_every_run(drawn, tmp_path):
    sweep = load_sweep(figured_sweep.make(tmp_path / "sweep"))
    for kind in ("png", "svg"):
        first, second = (picture_of(trade_off(sweep), kind, caption=True) for _ in range(2))
        assert first == second
    # ids of one figure do not name parts of another one in the same page
    first = set(_clips(svg_of(drawn[0])))
    second = set(_clips(svg_of(Drawn("other", "", "", drawn[0].figure, drawn[0].data))))
    assert first
    assert not first & second


def _clips(svg: str) -> list[str]:
    return [node.get("id", "") for node in ElementTree.fromstring(svg).iter(f"{SVG}clipPath")]


def test_the_old_curves_keep_their_palette(tmp_path):
    """figures/fate_curves.py looks as before: the first arm black and round, drawn at two columns."""
    from scp_ray.report.figures.fate_curves import draw_fate_curves
    from scp_ray.report.tables import fate_table

    figure = draw_fate_curves(fate_table(load_sweep(figured_sweep.make(tmp_path / "sweep"))), "below")
    line = figure.axes[0].containers[0].lines[0]
    assert (line.get_color(), line.get_marker()) == ("#000000", "o")
    assert isinstance(figure, Figure)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    assert Image.open(picture).size == (700, 460)


def test_of_many_arms_the_curves_of_the_best_are_drawn_and_the_caption_says_so(tmp_path):
    """100 arms, arm a with a mean FATE of a hundredths in round 1: arms 76 to 99 are the 24 best."""
    from scp_ray.report.figures.fate_curves import draw_fate_curves, save_figure

    numbers = np.repeat(np.arange(100), 2)
    rounds = np.tile([0, 1], 100)
    table = pd.DataFrame({"arm": [f"arm {number}" for number in numbers], "round": rounds, "fate_std": 0.0})
    table["fate_mean"] = np.where(rounds == 1, numbers / 100, 0.0)
    figure = draw_fate_curves(table, "FATE of the arms.")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [f"arm {a}" for a in range(76, 100)]
    below = " ".join(figure.get_supxlabel().split())
    assert below.startswith("FATE of the arms. Drawn are 24 arms of 100, of the highest mean FATE in any round;")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as of a layout that does not fit
        assert len(save_figure(figure, tmp_path / "many")) == 2
