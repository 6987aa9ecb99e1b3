"""All figures of a sweep: which there are, what their captions say, what a small sweep lacks."""

from __future__ import annotations

import json
from pathlib import Path

import figured_sweep
import pytest

from scp_ray.ledger import Sweep, load_sweep
from scp_ray.report.figures.all import all_figures, remove_undrawn
from scp_ray.report.figures.channel_atlas import channel_atlas
from scp_ray.report.figures.fate_by_axis import fate_by_axis


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return load_sweep(figured_sweep.make(tmp_path_factory.mktemp("figured") / "sweep"))


def test_all_figures_names_what_it_could_not_draw(sweep, tmp_path: Path):
    drawn, reasons = all_figures(sweep)
    assert [each.name for each in drawn] == [
        "trade-off", "fate-by-pr_c", "fate-by-layer", "heat-map", "channel-scores", "channel-atlas"
    ]  # fmt: skip
    assert [reason.partition(":")[0] for reason in reasons] == ["class-rates", "sensitive-maps"]
    assert "the predictions of trial a2s0 are gone" in reasons[0]
    bare = load_sweep(figured_sweep.make(tmp_path / "sweep", evidence=False, channels=False))
    drawn, reasons = all_figures(bare, maps=False)
    assert [each.name for each in drawn] == ["trade-off", "fate-by-pr_c", "fate-by-layer", "heat-map"]
    for each in drawn:
        assert "the ledger has no evidence" in each.caption
        each.figure.draw_without_rendering()  # with warnings as errors
    assert [reason.partition(":")[0] for reason in reasons] == ["class-rates", "channel-scores", "channel-atlas"]


def test_every_caption_says_of_which_images_seeds_and_rounds(sweep):
    drawn, _ = all_figures(sweep)
    for each in drawn:
        assert "n = 120 images; seeds 0, 1, 2; selection rule: round:2" in each.caption, each.name


def test_nothing_recorded_is_a_reason_not_an_error(tmp_path):
    root = figured_sweep.make(tmp_path / "sweep")
    for path in [*(root / "rounds").iterdir(), *(root / "evidence").iterdir()]:
        path.unlink()
    drawn, reasons = all_figures(load_sweep(root))
    assert drawn == []
    assert all("no round has been recorded yet" in reason for reason in reasons)
    assert len(reasons) == 8


def test_one_arm_and_one_seed_are_drawn_without_spread(tmp_path):
    drawn, reasons = all_figures(load_sweep(figured_sweep.make(tmp_path / "sweep", arms=(1,), seeds=(2,))), maps=False)
    assert [each.name for each in drawn] == ["trade-off", "fate-by-arm", "channel-scores", "channel-atlas"]
    assert [reason.partition(":")[0] for reason in reasons] == ["heat-map", "class-rates"]
    curve = drawn[1].data
    assert curve["fate_std"].isna().all()
    assert curve["fate_mean"].iloc[-1] == pytest.approx(0.61 / 0.5 - 0.125 / 0.2)
    assert "No two sets of one layer to compare" in drawn[3].caption
    for each in drawn:
        each.figure.draw_without_rendering()  # with warnings as errors


def test_the_legend_names_what_any_panel_shows(tmp_path):
    # layer -2 has no line for 0.2, layer -1 none for 0.1
    drawn = fate_by_axis(load_sweep(figured_sweep.make(tmp_path / "sweep", arms=(2, 1))), "pr_c")
    assert len(drawn.figure.axes) == 2
    assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == ["0.1", "0.2"]


def test_one_axis_needs_no_panels(tmp_path):
    drawn = fate_by_axis(load_sweep(figured_sweep.make(tmp_path / "sweep", arms=(0, 1))), "pr_c")
    assert len(drawn.figure.axes) == 1
    assert drawn.data["line"].unique().tolist() == ["0.1", "0.2"]


def test_a_trial_that_two_arms_share_is_no_agreement_of_arms(tmp_path):
    root = figured_sweep.make(tmp_path / "sweep", arms=(0, 1))
    definition = json.loads((root / "sweep.json").read_text())
    definition["arms"][1]["trials"] = definition["arms"][0]["trials"]
    (root / "sweep.json").write_text(json.dumps(definition))
    pairs = channel_atlas(load_sweep(root)).data.query("what == 'overlap'")
    assert set(pairs["kind"]) == {"between seeds of an arm"}


def test_figures_that_are_no_longer_drawn_go_and_other_files_stay(sweep, tmp_path: Path):
    earlier = (
        "heat-map.png",
        "fate-by-fine_tune.lr.svg",
        "fate-by-pr_c.csv",
        "mine.png",
        "heat-map.tex",
        "sensitive-maps.png",
    )
    for name in earlier:
        (tmp_path / name).write_text("earlier")
    remove_undrawn(tmp_path, [fate_by_axis(sweep, "pr_c")])
    stay = {"fate-by-pr_c.csv", "mine.png", "heat-map.tex", "sensitive-maps.png"}
    assert {path.name for path in tmp_path.iterdir()} == stay
    remove_undrawn(tmp_path / "absent", [])
