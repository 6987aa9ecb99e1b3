"""What figures of channels draw, against the numbers of figured_sweep.py."""

from __future__ import annotations

import itertools

import figured_sweep
import numpy as np
import pytest
from figured_sweep import by_label, label, texts

from scp_ray.ledger import Sweep, load_sweep
from scp_ray.report.figures.channel_atlas import channel_atlas
from scp_ray.report.figures.channel_scores import channel_scores


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return load_sweep(figured_sweep.make(tmp_path_factory.mktemp("figured") / "sweep"))


def test_channel_scores_before_and_after_with_the_pruned_marked(sweep):
    drawn = channel_scores(sweep)
    first = drawn.data[drawn.data["seed"] == 0]
    states = {stage: dict(zip(rows["channel"], rows["state"], strict=True)) for stage, rows in first.groupby("stage")}
    kept = {channel: "kept" for channel in (2, 4, 5, 7)}
    assert states[0] == kept | {0: "pruned next", 3: "pruned next", 6: "pruned later", 1: "pruned later"}
    assert states[1] == kept | {0: "gone", 3: "gone", 6: "pruned next", 1: "pruned next"}
    ranks = first[first["stage"] == 1].set_index("channel")["rank"]
    assert ranks.dropna().to_dict() == {6: 1, 1: 2, 4: 3, 7: 4, 2: 5, 5: 6}  # what is gone has no rank
    before, after = drawn.figure.axes
    # by score: channels 0, 3, 6, 1, 4, 7, 2, 5
    assert by_label(before)["pruned next"].get_xydata().tolist() == [[1, 0.0], [2, pytest.approx(0.1)]]
    assert by_label(before)["pruned later"].get_xydata() == pytest.approx(np.array([[3, 0.2], [4, 0.3]]))
    assert by_label(after)["pruned next"].get_xydata() == pytest.approx(np.array([[1, 0.2], [2, 0.3]]))
    assert by_label(after)["kept"].get_ydata() == pytest.approx([0.4, 0.5, 0.6, 0.7])
    assert after.get_title(loc="left") == "after 1 round"
    assert "2 pruned before, not shown" in texts(after)
    assert "after 1 of 2 rounds" in drawn.caption


def test_the_scores_of_a_seed_lie_within_the_range_of_all(sweep):
    before = channel_scores(sweep).figure.axes[0]
    band = by_label(before)["range over seeds"].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.0, 0.7))


def test_pruned_sets_overlap_as_counted_by_hand(sweep):
    drawn = channel_atlas(sweep)
    pairs = drawn.data[drawn.data["what"] == "overlap"]
    own = pairs[(pairs["kind"] == "between seeds of an arm") & (pairs["arm"] == label(0))]
    # seeds 0, 1, 2 have pruned {0, 1, 3, 6}, {1, 2, 4, 7}, {0, 2, 3, 5}
    assert own["jaccard"].tolist() == pytest.approx([1 / 7, 2 / 6, 1 / 7])
    between = pairs[pairs["kind"] == "between arms of a seed"]
    assert between["jaccard"].tolist() == [1.0] * 6  # two arms of each of two layers have the same sets: three seeds
    sets = [set(each) for each in itertools.combinations(range(8), 4)]
    chance = np.mean([len(sets[0] & other) / len(sets[0] | other) for other in sets])
    assert pairs["chance"].unique().tolist() == pytest.approx([chance])
    summary = drawn.figure.axes[2]
    assert by_label(summary)["chance: mean"].get_xdata() == pytest.approx([chance] * 5)
    assert summary.get_yticklabels()[0].get_text() == f"seeds of {label(0)} (3 pairs)"
    assert summary.get_yticklabels()[4].get_text() == "between arms of a seed (6 pairs)"


def test_strips_show_the_round_that_each_channel_went_in(sweep):
    drawn = channel_atlas(sweep)
    strips = drawn.figure.axes[0]
    assert strips.get_title(loc="left") == "layer 8 (module conv8), 8 channels"
    matrix = strips.images[0].get_array()
    assert matrix.shape == (6, 8)  # two arms, three seeds
    assert matrix.filled(0)[0].tolist() == [1, 2, 0, 1, 0, 0, 2, 0]
    assert matrix.filled(0)[1].tolist() == [0, 1, 2, 0, 1, 0, 0, 2]


def test_the_atlas_says_which_arms_it_leaves_out(sweep, monkeypatch):
    monkeypatch.setattr("scp_ray.report.figures.channel_atlas.MOST_ARMS", 1)
    drawn = channel_atlas(sweep)
    # the third arm: 0.56 / 0.5 - 0.08 / 0.2 = 0.72 is the highest FATE
    assert set(drawn.data["arm"].dropna()) == {label(2)}
    assert "the 1 best arms of 4 that pruned" in drawn.caption


def test_where_no_fate_is_defined_the_arm_of_the_highest_f1_is_shown_and_not_called_the_best(tmp_path, monkeypatch):
    """A base model whose gap is 0 leaves FATE undefined everywhere; channels were pruned all the same."""
    root = figured_sweep.make(tmp_path / "sweep")
    undefined = load_sweep(root)
    fates = [name for name in undefined.rounds if str(name).startswith("val_fate_")]
    undefined.__dict__["rounds"] = undefined.rounds.assign(**dict.fromkeys(fates, np.nan))
    scores = channel_scores(undefined)
    assert label(1) in scores.caption
    assert "the best of" not in scores.caption
    assert set(channel_atlas(undefined).data["arm"].dropna()) >= {label(arm) for arm in range(4)}
    monkeypatch.setattr("scp_ray.report.figures.channel_atlas.MOST_ARMS", 2)
    assert "the 2 best arms of 4 that pruned" in channel_atlas(undefined).caption
    assert "the best of 4 by mean FATE" in channel_scores(load_sweep(root)).caption
