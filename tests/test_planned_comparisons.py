"""How many comparisons a plan is corrected for: by arms that come to something else, not by labels."""

from __future__ import annotations

import pytest
from asking import MINIATURE, ask

from scp_ray.cli.planning import different
from scp_ray.config import SweepConfig, read_space


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "miniature.yaml"
    path.write_text(MINIATURE)
    return path


@pytest.mark.parametrize(
    ("changes", "labels", "expected"),
    [
        ([], 2, 2),
        # the control prunes nothing at any ratio
        (["grid.criterion=[snnl, none]"], 4, 3),
        # 0.05 and 0.06 of 64 channels are 3 and 4, 0.05 and 0.051 are 3
        (["grid.pr_c=[0.05, 0.051, 0.06]"], 3, 2),
        # the same trials, read at other rounds
        (["grid.pr_c=[0.05]", "grid.rounds=[1, 2]"], 2, 2),
        (["grid.pr_c=[0.05]", "grid.select=[last, best_val_fate]"], 2, 2),
        (["trial.select=last", "arms=[{stop.th_acc: 0.03}, {stop.th_acc: 0.1}]"], 4, 4),
        # where the best round is read, no stop rule that is only recorded has a say
        (["arms=[{stop.th_acc: 0.03}, {stop.th_acc: 0.1}]"], 4, 2),
        (["arms=[{stop.gap: eodd}, {stop.gap: eopp1}]"], 4, 4),
    ],
)
def test_arms_that_come_to_the_same_are_one_comparison(space, changes, labels, expected):
    raw = read_space(str(space), profile=None, overrides=[*changes, "seeds=[0, 1]"])
    arms = SweepConfig.from_dict(raw).resolved_arms()
    assert (len(arms), different(arms)) == (labels, expected)


def test_the_plan_corrects_for_comparisons_and_not_for_labels(space, tmp_path):
    """Four labels of three different arms."""
    changes = ("--set", "grid.criterion=[snnl, none]", "--set", "seeds=[0, 1]")
    told = ask("sweep", space, "--out", tmp_path / "results", "--dry-run", *changes).err
    assert "4 arms x 2 seeds; 6 trials" in told
    assert ", of 2 seeds and 3 arms." in told
    assert "one arm against the baseline instead of 3 detects" in told
