"""A definition is told all its faults together, those that need files or the network or several fields too."""

from __future__ import annotations

from typing import Any

import pytest
from asking import ask

from scp_ray.config import SweepConfig, TrialConfig, resolve
from scp_ray.errors import ConfigError, UnknownNameError

TRIAL = {"dataset": {"name": "synthetic", "image_size": 64}, "backbone": "tiny", "pr_c": 0.1, "rounds": 2}
WEIGHTS = {"name": "tiny", "weights": "/nofile"}
NO_WEIGHTS = "trial.backbone.weights: '/nofile' is not 'none', 'imagenet' or a file that exists."
# the last of tiny's layers has 64 channels: half of them is 32, twice that leaves none; 64 // 32 - 1 = 1 round does
NO_CHANNELS = "trial.pr_c: 0.5 prunes 32 of 64 channels of layer 21 a round, so 2 rounds would leave none."
NO_LAYER = "trial.layer: layer (1..8, -8..-1 or a name) 20 not found."
NO_ROUND = "trial.select: got 'round:9' with rounds: 2; allowed are 'round:0' to 'round:2'."
# 64 px halved five times are 2 x 2
NO_MAPS = "trial.method: me needs maps of at least 3 x 3 after every stage; those of vgg11 go down to 2 at 64 px."
NO_GROUPS = "trial.pick: criterion random does not look at the groups"


def space(trial: dict[str, Any]) -> dict[str, Any]:
    return {"name": "test", "trial": TRIAL | trial}


def told(trial: dict[str, Any]) -> list[str]:
    """What the definition, as ``sweep`` and ``trial`` look at it before the images, is refused with."""
    with pytest.raises(ConfigError) as refused:
        SweepConfig.from_dict(space(trial)).check()
    return refused.value.faults


CASES: list[tuple[dict[str, Any], list[str]]] = [
    ({"backbone": WEIGHTS, "layer": 20}, [NO_WEIGHTS, NO_LAYER]),
    ({"backbone": WEIGHTS, "pr_c": 0.5}, [NO_WEIGHTS, NO_CHANNELS]),
    ({"backbone": WEIGHTS, "select": "round:9", "pr_c": 0.5}, [NO_ROUND, NO_WEIGHTS, NO_CHANNELS]),
    (
        {"backbone": "vgg11", "method": "me", "pick": "significant", "criterion": "random", "pr_c": 0.5},
        [NO_MAPS, NO_GROUPS, "trial.pr_c: 0.5 prunes 256 of 512 channels of layer features.18 a round"],
    ),
    (
        {"dataset": {"name": "isic2019", "root": "/nodir"}, "layer": 20},
        ["trial.dataset.root: /nodir does not exist.", NO_LAYER],
    ),
    ({"dataset": {"name": "isic2019"}, "layer": 20}, ["trial.dataset.root: missing", NO_LAYER]),
    ({"dataset": {"name": "isic2019"}, "backbone": WEIGHTS}, ["trial.dataset.root: missing", NO_WEIGHTS]),
    ({"train": {"epoch": 1}, "backbone": WEIGHTS, "pr_c": 0.5}, ["trial.train.epoch", NO_WEIGHTS, NO_CHANNELS]),
    (
        {"pick": {"rule": "significant", "attributes": ["age"]}, "criterion": "random"},
        ["trial.pick.attributes: age is no attribute of the data set", NO_GROUPS],
    ),
]


@pytest.mark.parametrize(("trial", "wanted"), CASES, ids=range(len(CASES)))
def test_independent_faults_are_told_together(trial: dict[str, Any], wanted: list[str]) -> None:
    found = told(trial)
    assert len(found) == len(wanted), found
    for fault, words in zip(found, wanted, strict=True):
        assert fault.startswith(words)


def test_arms_that_are_wrong_are_told_all(tmp_path: Any) -> None:
    asked = space({"backbone": WEIGHTS}) | {"grid": {"pr_c": [0.1, 0.5], "select": ["last", "round:9"]}}
    with pytest.raises(ConfigError) as refused:
        SweepConfig.from_dict(asked).resolved_arms()
    assert [fault[: len(NO_ROUND)] for fault in refused.value.faults if "select" in fault] == [NO_ROUND]
    assert len(refused.value.faults) == 3, "the weights once, pr_c and select"


def test_a_command_says_them_all_before_it_looks_at_images(tmp_path: Any) -> None:
    sets = ["trial.dataset.root=/nodir", "trial.layer=99", "trial.backbone.weights=/nofile"]
    options = [word for each in sets for word in ("--set", each)]
    answer = ask("sweep", "isic2019-mini", "--dry-run", "--out", tmp_path, *options)
    assert answer.code == 2
    for words in ("trial.dataset.root: /nodir does not exist", "trial.layer: layer (1..17", NO_WEIGHTS):
        assert words in answer.err


def test_resolve_tells_a_single_fault_as_it_is_and_several_together() -> None:
    with pytest.raises(UnknownNameError, match=r"layer .* 20 not found"):
        resolve(TrialConfig.from_dict(TRIAL | {"layer": 20}))
    with pytest.raises(ConfigError) as refused:
        resolve(TrialConfig.from_dict(TRIAL | {"layer": 20, "backbone": WEIGHTS}))
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["trial.backbone.weights", "trial.layer"]


def test_rounds_that_there_are_can_be_selected() -> None:
    for rule in ("round:0", "round:2", "last"):
        SweepConfig.from_dict(space({"select": rule})).check()


@pytest.mark.parametrize("place", ["grid", "arms"])
def test_an_axis_is_written_without_trial(place: str) -> None:
    trial = {key: value for key, value in TRIAL.items() if key != "pr_c"}
    axes = {"grid": {"trial.pr_c": [0.1], "lyer": [1]}, "arms": [{"trial.pr_c": 0.1, "lyer": 1}]}[place]
    with pytest.raises(ConfigError) as refused:
        SweepConfig.from_dict({"name": "test", "trial": trial, place: axes})
    where = {"grid": "grid", "arms": "arms[0]"}[place]
    first, second = refused.value.faults
    assert first == f"{where}.trial.pr_c: axes are written without 'trial.', since all are below it: write pr_c."
    assert second.startswith(f"{where}.lyer: unknown key. Did you mean 'layer'? Known here: backbone, ")
