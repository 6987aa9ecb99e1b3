"""Naming an arm: by its label, or by settings that fit no other one."""

from __future__ import annotations

from pathlib import Path

import pytest
from asking import ask
from planted_sweep import Images, write
from three_arms import make

from scp_ray.errors import ConfigError, UnknownNameError
from scp_ray.ledger import load_sweep
from scp_ray.report.arms import find_arm


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("planted") / "made")


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ("pr_c=0.2, layer=-2", "pr_c=0.2, layer=-2"),
        ("pr_c=0.1", "pr_c=0.1, layer=-1"),
        (" layer = -2 ", "pr_c=0.2, layer=-2"),
        ("pr_c=2e-1,layer=-1", "pr_c=0.2, layer=-1"),
        ("method=vanilla,pr_c=0.1", "pr_c=0.1, layer=-1"),
        ("base", "base"),
        ("round=0", "base"),
    ],
)
def test_an_arm_is_found_by_its_label_or_settings(sweep: Path, asked: str, label: str) -> None:
    assert find_arm(load_sweep(sweep), asked) == label


def test_plug_ins_and_listed_arms_are_found(tmp_path: Path) -> None:
    arms = {
        "control": {"criterion": "none"},
        "criterion=snnl(distance=cosine,temperature=1.0)": {
            "criterion": {"name": "snnl", "distance": "cosine", "temperature": 1.0}
        },
        "method=me-fairprune": {"method": ["me", "fairprune"]},
    }
    images = Images(40)
    answers = {(label, 0): images.answers((0.9, 0.9), 0) for label in arms}
    sweep = load_sweep(write(tmp_path / "made", images, arms, answers, {0: images.answers((0.9, 0.9), 1)}))
    for asked, label in (
        ("control", "control"),
        ("criterion=none", "control"),
        ("criterion=snnl", [*arms][1]),
        ("criterion=snnl(distance=cosine,temperature=1.0)", [*arms][1]),
        ("criterion.distance=cosine", [*arms][1]),
        ("method=me-fairprune", "method=me-fairprune"),
    ):
        assert find_arm(sweep, asked) == label


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ("pr_c=0.2", ConfigError, r"2 arms fit 'pr_c=0\.2': 'pr_c=0\.2, layer=-1', 'pr_c=0\.2, layer=-2'"),
        ("pr_c=0.3", ConfigError, r"no arm fits.*Arms: 'pr_c=0\.1, layer=-1'.*or base"),
        ("prc=0.2", UnknownNameError, r"path 'prc' not found\. Did you mean 'pr_c'\? Known: pr_c, layer"),
        ("pr_c=0.2,round=2", ConfigError, r"only round=0"),
        ("pr_c=a.b", ConfigError, r"no arm fits"),
        ("", ConfigError, r"no arm fits"),
    ],
)
def test_a_filter_that_fits_no_arm_or_several_is_refused(sweep: Path, asked: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        find_arm(load_sweep(sweep), asked)
    assert ask("compare", sweep, asked, "base").code == 2
