"""FATE by an axis: panels, lines and floors against the numbers of figured_sweep.py."""

from __future__ import annotations

from types import SimpleNamespace

import figured_sweep
import numpy as np
import pytest
from figured_sweep import ARMS, BASE_EODD, BASE_F1, EODD, F1, by_label
from matplotlib.collections import PolyCollection

from scp_ray.ledger import Sweep, load_sweep
from scp_ray.report.figures.drawn import NotDrawnError
from scp_ray.report.figures.fate_by_axis import fate_by_axis
from scp_ray.report.figures.varying import axes_of


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return load_sweep(figured_sweep.make(tmp_path_factory.mktemp("figured") / "sweep"))


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


def test_a_value_looks_alike_where_another_is_missing(tmp_path):
    lacking = load_sweep(figured_sweep.make(tmp_path / "lacking"))
    arms = lacking.definition["arms"]
    arms.remove(next(arm for arm in arms if arm["settings"] == {"pr_c": 0.1, "layer": -1}))
    drawn = fate_by_axis(lacking, "pr_c")
    panels = {axes.get_title(loc="left"): by_label(axes) for axes in drawn.figure.axes}
    assert {title: [*lines] for title, lines in panels.items()} == {"layer=-1": ["0.2"], "layer=-2": ["0.1", "0.2"]}
    here, there = panels["layer=-1"]["0.2"], panels["layer=-2"]["0.2"]
    assert (here.get_color(), here.get_marker()) == (there.get_color(), there.get_marker())


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
