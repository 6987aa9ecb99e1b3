"""What figures of rounds and answers draw, against the numbers of figured_sweep.py and three_arms.py."""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import figured_sweep
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import three_arms
from figured_sweep import ARMS, BASE_EODD, BASE_F1, EODD, F1, by_label, texts
from matplotlib.collections import PolyCollection
from planted_sweep import CLASSES, Images
from scipy.stats import binomtest
from scipy.stats import t as student

from scp_ray.ledger import Sweep, load_sweep
from scp_ray.ledger.evidence import fill_evidence
from scp_ray.report.figures.class_rates import class_rates
from scp_ray.report.figures.drawn import NotDrawnError
from scp_ray.report.figures.fate_by_axis import fate_by_axis
from scp_ray.report.figures.heat_map import heat_map
from scp_ray.report.figures.trade_off import trade_off
from scp_ray.report.figures.varying import axes_of


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return load_sweep(figured_sweep.make(tmp_path_factory.mktemp("figured") / "sweep"))


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Three arms with predictions."""
    sweep = load_sweep(three_arms.make(tmp_path_factory.mktemp("answered") / "sweep"))
    fill_evidence(sweep)
    return sweep


# -- FATE by an axis --------------------------------------------------------------------------------------------------


def test_the_axes_are_what_varies(sweep):
    assert [(axis.path, axis.values) for axis in axes_of(sweep)] == [("pr_c", ("0.1", "0.2")), ("layer", ("-2", "-1"))]


def test_lengths_that_follow_from_a_method_are_no_axes_of_their_own():
    """Table 1's arms: FairPrune with and without SCP differ in both, of which one tells it; without the former none."""
    listed = [("vanilla", 0), ("hsic", 0), ("fairprune", 0), ("fairprune", 3)]

    def axes(arms: list[tuple[str, int]], **more: bool) -> list[str]:
        settings = [{"method": method, "rounds": rounds, "select": f"round:{rounds}"} for method, rounds in arms]
        entries = [{"label": str(number), "settings": each, "config": {}} for number, each in enumerate(settings)]
        return [axis.path for axis in axes_of(SimpleNamespace(definition={"arms": entries}), **more)]

    assert axes(listed) == ["method", "rounds"]
    assert axes([*listed[:2], listed[3]]) == ["method"]
    assert axes([*listed[:2], listed[3]], following=True) == ["method", "rounds", "select"]


def test_fate_by_pr_c_has_a_panel_per_layer_and_a_line_per_ratio(sweep):
    drawn = fate_by_axis(sweep, "pr_c")
    assert drawn.name == "fate-by-pr_c"
    panels = {axes.get_title(loc="left"): axes for axes in drawn.figure.axes}
    assert set(panels) == {"layer=-1", "layer=-2"}
    for (pr_c, layer), f1, eodd in zip(ARMS, F1, EODD, strict=True):
        line = by_label(panels[f"layer={layer}"])[str(pr_c)]
        # mean over seeds of F1 / base F1 - Eodd / base Eodd: the seeds' offsets cancel out
        half = ((f1 + BASE_F1) / 2 / BASE_F1) - ((eodd + BASE_EODD) / 2 / BASE_EODD)
        assert line.get_ydata() == pytest.approx([0, half, f1 / BASE_F1 - eodd / BASE_EODD])
        assert np.round(line.get_xdata()).tolist() == [0, 1, 2]


def test_fate_by_pr_c_draws_the_floor_of_each_line(sweep):
    drawn = fate_by_axis(sweep, "pr_c")
    bands = {axes.get_title(loc="left"): [b for b in axes.collections if isinstance(b, PolyCollection)]
             for axes in drawn.figure.axes}  # fmt: skip
    assert {title: len(found) for title, found in bands.items()} == {"layer=-1": 2, "layer=-2": 2}
    # the first arm after two rounds: 0.50 / 0.5 - 0.085 / 0.2 and - 0.02 / 0.2
    heights = bands["layer=-1"][0].get_paths()[0].vertices[:, 1]
    assert np.isclose(heights, 1 - 0.425).any()
    assert np.isclose(heights, 1 - 0.1).any()
    assert "noise floor" in drawn.caption


def test_a_gap_within_its_floor_is_marked_by_an_open_marker(sweep):
    table = fate_by_axis(sweep, "layer").data
    within = table[table["within"]]
    # Eodd of the third arm is 0.08 after two rounds, its floor reaches 0.1; all others lie above theirs
    assert within[["panel", "line", "round"]].to_numpy().tolist() == [["pr_c=0.1", "-2", 2]]
    drawn = fate_by_axis(sweep, "layer")
    panel = next(axes for axes in drawn.figure.axes if axes.get_title(loc="left") == "pr_c=0.1")
    hollow = [line for line in panel.lines if line.get_markerfacecolor() == "#FFFFFF" and len(line.get_xdata())]
    assert [np.round(line.get_xdata()).tolist() for line in hollow] == [[2]]


def test_seeds_and_their_spread_are_drawn(sweep):
    row = fate_by_axis(sweep, "pr_c").data.iloc[2]
    seeds = [(0.5 + 0.01 * s) / 0.5 - (0.14 + 0.005 * s) / 0.2 for s in (-1, 0, 1)]
    assert (row["seeds"], row["fate_mean"]) == (3, pytest.approx(np.mean(seeds)))
    assert row["fate_std"] == pytest.approx(np.std(seeds, ddof=1))


def test_what_else_varies_is_averaged_where_panels_would_be_many(sweep, monkeypatch):
    monkeypatch.setattr("scp_ray.report.figures.fate_by_axis.MOST_PANELS", 1)
    drawn = fate_by_axis(sweep, "pr_c")
    assert len(drawn.figure.axes) == 1
    last = drawn.data[(drawn.data["line"] == "0.2") & (drawn.data["round"] == 2)]
    expected = np.mean([F1[a] / BASE_F1 - EODD[a] / BASE_EODD for a in (1, 3)])
    assert last["fate_mean"].tolist() == pytest.approx([expected])
    assert "over layer, which also vary" in drawn.caption


def test_an_axis_that_does_not_vary_is_refused(sweep):
    with pytest.raises(NotDrawnError, match=r"criterion does not vary; what does: pr_c, layer"):
        fate_by_axis(sweep, "criterion")


def test_more_lines_than_can_be_read_are_refused(sweep, monkeypatch):
    monkeypatch.setattr("scp_ray.report.figures.fate_by_axis.MOST_LINES", 1)
    with pytest.raises(NotDrawnError, match=r"pr_c takes 2 values; lines of more than 1 cannot be read"):
        fate_by_axis(sweep, "pr_c")


# -- the trade-off plane ----------------------------------------------------------------------------------------------


def test_the_plane_has_front_and_knee(sweep):
    drawn = trade_off(sweep)
    arms = drawn.data[drawn.data["kind"] == "arm"].set_index("arm")
    assert arms["f1"].tolist() == pytest.approx(list(F1))
    assert arms["eodd"].tolist() == pytest.approx(list(EODD))
    # the first arm has less F1 and a larger gap than the second; the others trade one for the other
    assert arms["front"].tolist() == [False, True, True, True]
    # between the ends (0.60, 0.12) and (0.56, 0.08) the fourth lies at (0.5, 0.25) of 0 best .. 1 worst: 0.75 < 1
    assert arms["knee"].tolist() == [False, False, False, True]
    marks = by_label(drawn.figure.axes[0])
    assert marks["knee"].get_xydata().tolist() == [pytest.approx([0.58, 0.09])]
    assert marks["before pruning"].get_xydata().tolist() == [pytest.approx([BASE_F1, BASE_EODD])]
    assert marks["arm on the front"].get_xdata() == pytest.approx([0.56, 0.58, 0.60])


def test_the_planes_intervals_and_floor_come_from_the_evidence(sweep):
    drawn = trade_off(sweep)
    row = drawn.data.iloc[0]
    seeds, images = figured_sweep.F1_APART**2 / 3, figured_sweep.F1_ERROR**2
    half = math.sqrt(student.ppf(0.975, 2) ** 2 * seeds + student.ppf(0.975, math.inf) ** 2 * images)
    assert (row["f1_low"], row["f1_high"]) == pytest.approx((F1[0] - half, F1[0] + half))
    floor = by_label(drawn.figure.axes[0])["base's noise floor"]
    assert (floor.get_y(), floor.get_y() + floor.get_height()) == pytest.approx((0.02, 0.085))
    assert drawn.data["within"].tolist()[:4] == [False, False, True, False]


def test_bars_that_say_nothing_do_not_squeeze_the_plane(tmp_path):
    """Two seeds 0.2 apart in F1: the interval reaches from 0 to 1, t with about one degree of freedom."""
    root = figured_sweep.make(tmp_path / "sweep", seeds=(0, 2), evidence=False)
    for path in (root / "rounds").iterdir():
        rows = pq.read_table(path).to_pandas()
        rows["val_f1"] += 0.1 * (rows["seed"] - 1) * (rows["round"] > 0)
        pq.write_table(pa.Table.from_pandas(rows), path)
    drawn = trade_off(load_sweep(root))
    arms = drawn.data[drawn.data["kind"] == "arm"]
    assert arms["f1_low"].tolist() == [0.0] * 4
    assert arms["f1_high"].tolist() == [1.0] * 4
    low, high = drawn.figure.axes[0].get_xlim()
    assert low < BASE_F1 < 0.6 < high
    assert high - low < 0.3  # the points span 0.1


def test_a_lone_seed_without_evidence_has_no_interval(tmp_path):
    drawn = trade_off(load_sweep(figured_sweep.make(tmp_path / "sweep", seeds=(1,), evidence=False)))
    assert drawn.data[["f1_low", "f1_high", "eodd_low", "eodd_high"]].isna().all(axis=None)
    drawn.figure.draw_without_rendering()


def test_published_points_are_lettered_and_said_to_be_of_other_images(sweep):
    published = pd.DataFrame(
        {"method": ["VGG-11", "nothing", "SCP"], "f1": [0.51, 0.5, 0.53], "eodd": [0.182, None, 0.139]}
    )
    drawn = trade_off(sweep, published=published)
    points = by_label(drawn.figure.axes[0])["published"]
    assert points.get_xydata().tolist() == [[0.51, 0.182], [0.53, 0.139]]
    assert {"a", "b"} <= texts(drawn.figure.axes[0])
    assert "of its own test images" in drawn.caption
    assert "a VGG-11, b SCP" in drawn.caption


# -- the heat map -----------------------------------------------------------------------------------------------------


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


def test_cells_are_held_against_the_bases_floor_not_their_own(tmp_path):
    # the third arm's Eodd of 0.08 lies within its own floor, up to 0.1, and above the base's, up to 0.07
    drawn = heat_map(load_sweep(figured_sweep.make(tmp_path / "sweep", floor=(0.04, 0.02, 0.07))))
    assert not drawn.data["within"].any()


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


# -- classes and groups -----------------------------------------------------------------------------------------------


def test_recalls_are_counted_over_seeds_and_images(answered):
    drawn = class_rates(answered, "pr_c=0.2, layer=-1")
    images = Images()
    said = [images.answers(three_arms.ACCURACY["pr_c=0.2, layer=-1"], 200 + seed) for seed in three_arms.SEEDS]
    begun = [images.answers(three_arms.BASE, seed) for seed in three_arms.SEEDS]
    table = drawn.data.set_index(["side", "class", "group"])
    for side, answers in (("before pruning", begun), ("after", said)):
        for code, group in itertools.product(range(CLASSES), (0, 1)):
            cell = (images.label == code) & (images.group == group)
            row = table.loc[(side, code, group)]
            hits = [int((answer[cell] == code).sum()) for answer in answers]
            assert row["support"] == cell.sum()
            assert row["tpr"] == pytest.approx(np.mean(hits) / cell.sum())
            if len(set(hits)) == 1:
                known = binomtest(hits[0], int(cell.sum())).proportion_ci(method="wilson")
                assert (row["low"], row["high"]) == pytest.approx((known.low, known.high))
    before, after = drawn.figure.axes
    assert [tick.get_text() for tick in before.get_yticklabels()].count("class 0") == 1
    assert set(by_label(after)) == {"tone 0", "tone 1"}
    assert {f"{((images.label == 0) & (images.group == 0)).sum()}"} <= texts(before)


def test_the_best_arm_is_shown_and_said_to_be_chosen(answered):
    drawn = class_rates(answered)
    assert "The arm pr_c=0.2, layer=-1, the best of 3 arms by mean FATE" in drawn.caption


def test_an_arm_without_a_round_answers_as_its_base_models_do(tmp_path):
    """A method alone: its trials leave no predictions of their own."""
    root = three_arms.make(tmp_path / "sweep")
    arm, definition = "pr_c=0.1, layer=-1", json.loads((root / "sweep.json").read_text())
    (entry,) = (entry for entry in definition["arms"] if entry["label"] == arm)
    entry["config"] |= {"rounds": 0, "select": "round:0"}
    for trial in entry["trials"]:
        path = root / "rounds" / f"{trial['trial_id']}.parquet"
        pq.write_table(pq.read_table(path).slice(0, 1), path)
        (root / "predictions" / f"{trial['trial_id']}.parquet").unlink()
    (root / "sweep.json").write_text(json.dumps(definition))
    drawn = class_rates(load_sweep(root), arm)
    before, after = (
        drawn.data[drawn.data["side"] == side].drop(columns="side") for side in ("before pruning", "after")
    )
    assert before["tpr"].to_numpy() == pytest.approx(after["tpr"].to_numpy())
    assert before["support"].sum() == 240


def test_only_the_largest_classes_are_drawn(answered, monkeypatch):
    monkeypatch.setattr("scp_ray.report.figures.class_rates.MOST_CLASSES", 2)
    drawn = class_rates(answered)
    assert len(drawn.figure.axes[0].get_yticks()) == 2
    assert "The 2 largest of 3 classes are drawn" in drawn.caption
    assert drawn.data["class"].nunique() == 3
