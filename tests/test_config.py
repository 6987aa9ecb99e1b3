"""A definition that is wrong is told all its faults; one that is right has the arms it says."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import pytest

from scp_ray.config import SweepConfig, TrialConfig
from scp_ray.criteria.snnl import SNNL
from scp_ray.data.base import DataSet, datasets
from scp_ray.errors import ConfigError, DataError

TRIAL = {"dataset": {"name": "synthetic", "image_size": 32}, "backbone": "tiny", "pr_c": 0.1, "rounds": 1}
SPACE = {"name": "test", "trial": TRIAL}
TINY_LAYERS = [
    *("1 (0, 16 channels)", "2 (3, 16 channels)", "3 (6, 32 channels)", "4 (9, 32 channels)"),
    *("5 (12, 64 channels)", "6 (15, 64 channels)", "7 (18, 64 channels)", "8 (21, 64 channels)"),
]


def space(trial: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """SPACE with some fields of the trial and some of the top changed; a value of None takes a field away."""
    changed = TRIAL | (trial or {})
    return SPACE | {"trial": {key: value for key, value in changed.items() if value is not None}} | top


def faults_of(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        SweepConfig.from_dict(data).resolved_arms()
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        (space({"critterion": "snnl"}), "trial.critterion", ["unknown key", "Did you mean 'criterion'?", "backbone, "]),
        (space(gird={}), "gird", ["Did you mean 'grid'?", "seeds"]),
        (space({"train": {"epoch": 3}}), "trial.train.epoch", ["Did you mean 'epochs'?", "lr_gamma"]),
        (space({"criterion": "snl"}), "trial.criterion", ["'snl'", "Did you mean 'snnl'?", "magnitude, none, random"]),
        (space({"criterion": {"name": "snnl", "distanc": 1}}), "trial.criterion.distanc", ["Did you mean 'distance'?"]),
        (space({"criterion": {"distance": "cosine"}}), "trial.criterion", ["a mapping with a name", "magnitude"]),
        (space({"criterion": 5}), "trial.criterion", ["5 (int)", "allowed is a name"]),
        (space({"backbone": "tny"}), "trial.backbone", ["'tny'", "Did you mean 'tiny'?", "resnet18", "vgg11"]),
        (space({"method": "vanila"}), "trial.method", ["Did you mean 'vanilla'?"]),
        (space({"dataset": "sinthetic"}), "trial.dataset", ["'sinthetic'", "Did you mean 'synthetic'?"]),
        (space({"dataset": None}), "trial.dataset", ["missing"]),
        (space({"pr_c": 0}), "trial.pr_c", ["got 0 (int)", "a number > 0 and < 1"]),
        (space({"pr_c": 1}), "trial.pr_c", ["got 1 (int)", "a number > 0 and < 1"]),
        (space({"pr_c": 1.5}), "trial.pr_c", ["got 1.5 (float)", "a number > 0 and < 1"]),
        (space({"pr_c": "two"}), "trial.pr_c", ["got 'two' (str)", "a number > 0 and < 1"]),
        (space({"pr_c": "0.02"}), "trial.pr_c", ["got '0.02' (str", "without quotes"]),
        (space({"pr_c": True}), "trial.pr_c", ["got True (bool)", "a number > 0 and < 1"]),
        (space({"pr_c": float("nan")}), "trial.pr_c", ["got nan (float)", "a number > 0 and < 1"]),
        (space({"pr_c": None}), "trial.pr_c", ["missing", "a number > 0 and < 1"]),
        (space({"train": {"epochs": -1}}), "trial.train.epochs", ["got -1 (int)", "a whole number >= 0"]),
        (space({"train": {"epochs": 2.0}}), "trial.train.epochs", ["got 2.0 (float)", "a whole number >= 0"]),
        (space({"train": {"lr": float("nan")}}), "trial.train.lr", ["got nan (float)", "a number > 0"]),
        (space({"train": {"lr": float("inf")}}), "trial.train.lr", ["got inf (float)", "a number > 0"]),
        (space({"train": {"lr": 0}}), "trial.train.lr", ["got 0 (int)", "a number > 0"]),
        (space({"train": {"momentum": 1}}), "trial.train.momentum", ["got 1 (int)", "a number >= 0 and < 1"]),
        (space({"train": {"nesterov": 1}}), "trial.train.nesterov", ["got 1 (int)", "true or false"]),
        (space({"train": {"augment": "flip"}}), "trial.train.augment", ["got 'flip'", "'flips' or 'none'"]),
        (space({"train": 3}), "trial.train", ["got 3 (int)", "mapping of epochs, batch_size, lr"]),
        (space({"fine_tune": {"batch_size": 1}}), "trial.fine_tune.batch_size", ["got 1", "a whole number >= 2"]),
        (space({"stop": {"gap": "eod"}}), "trial.stop.gap", ["got 'eod'", "'eopp0' or 'eopp1' or 'eodd'"]),
        (space({"select": "best"}), "trial.select", ["got 'best'", "'best_val_fate', 'last' or 'round:n'"]),
        (space({"mask": "half"}), "trial.mask", ["got 'half'", "'full' or 'released'"]),
        (space({"layer": True}), "trial.layer", ["got True (bool)", "a whole number or text"]),
        (space({"layer": 9}), "trial.layer", ["9", "1..8", *TINY_LAYERS]),
        (space({"layer": 0}), "trial.layer", ["0", "1..8", *TINY_LAYERS]),
        (space({"layer": "conv8"}), "trial.layer", ["'conv8'", "1..8", *TINY_LAYERS]),
        (space({"seed": 3}), "trial.seed", ["top of the file"]),
        (space(seeds=[0, 1, 0]), "seeds", ["[0, 1, 0]", "different seeds"]),
        (space(seeds=[]), "seeds", ["[]", "at least one"]),
        (space(seeds=[-1]), "seeds", ["[-1]", "a whole number >= 0"]),
        (space(seeds=3), "seeds", ["got 3 (int)", "a list"]),
        (space(grid={"pr_cc": [0.1]}), "grid.pr_cc", ["unknown key", "Did you mean 'pr_c'?"]),
        (space(grid={"train.epoch": [1]}), "trial.train.epoch", ["unknown key", "Did you mean 'epochs'?"]),
        (space(grid={"rounds.n": [1]}), "trial.rounds.n", ["1", "no fields"]),
        (space(grid={"pr_c": []}), "grid.pr_c", ["[]", "at least one value"]),
        (space(grid={"pr_c": 0.1}), "grid.pr_c", ["0.1", "list of at least one value"]),
        (space(grid={"layer": 3}), "grid.layer", ["3", "list of at least one value"]),
        (space(grid={"seed": [1, 2]}), "trial.seed", ["top of the file"]),
        (SPACE | {"arms": 3}, "arms", ["3", "a list of mappings"]),
        (SPACE | {"arms": [{"label": "x"}]}, "arms", ["a list of mappings"]),
        (SPACE | {"arms": [{"layer": 1}, {"layer": 1}]}, "arms", ["two arms are called 'layer=1'"]),
        (SPACE | {"arms": [{"label": 3, "layer": 1}]}, "arms", ["label 3", "text"]),
        (SPACE | {"arms": [{"label": ["a"], "layer": 1}]}, "arms", ["label ['a']", "text"]),
        (SPACE | {"arms": [{"layer": 1}], "grid": {"layer": [2]}}, "grid.layer", ["an arm sets it too"]),
        (SPACE | {"arms": [{"rounds.n": 1}]}, "trial.rounds.n", ["no fields"]),
        (space({"pick": "highest"}), "trial.pick.rule", ["'highest'", "'lowest' or 'significant'"]),
        (space({"pick": {"rule": "significant", "q": 0}}), "trial.pick.q", ["> 0"]),
        (space(name="a/b"), "name", ["'a/b'", "letters, digits"]),
        (space(name=".."), "name", ["'..'", "letters, digits"]),
        (space(name=5), "name", ["got 5 (int)", "text"]),
        (space(resources={"cpus_per_trial": 0}), "resources.cpus_per_trial", ["got 0 (int)", "a whole number >= 1"]),
        (space(resources={"gpus_per_trial": 1.5}), "resources.gpus_per_trial", ["1.5", "whole numbers"]),
        (space(resources={"gpus_per_trial": "all"}), "resources.gpus_per_trial", ["'all'", "'auto' or a number >= 0"]),
        (space(resources={"cpus": 1}), "resources.cpus", ["unknown key", "cpus_per_trial"]),
        (space(keep_models="all"), "keep_models", ["'all'", "'selected' or 'front' or 'none'"]),
        (SPACE | {"trial": 5}, "trial", ["got 5", "a mapping"]),
        ({"name": "test"}, "trial", ["missing", "a mapping"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_says_where_what_came_and_what_is_allowed(data, path, words):
    faults = faults_of(data)
    assert len(faults) == 1
    assert faults[0].startswith(f"{path}: ")
    assert [word for word in words if word not in faults[0]] == []


@pytest.mark.parametrize(
    ("pr_c", "rounds", "allowed"),
    [
        (0.5, 1, None),  # 32 of 64
        (0.5, 2, 1),
        (0.1, 10, None),  # 6 a round: 4 are left
        (0.1, 11, 10),
        (0.99, 1, None),  # 63.36: one channel is left
        (0.995, 1, 0),  # 63.68 rounds to all 64
    ],
)
def test_rounds_that_would_prune_every_channel_are_refused(pr_c, rounds, allowed):
    data = space({"pr_c": pr_c, "rounds": rounds})
    if allowed is None:
        assert len(SweepConfig.from_dict(data).resolved_arms()) == 1
        return
    faults = faults_of(data)
    assert len(faults) == 1
    assert re.search(rf"trial.pr_c: {pr_c} prunes \d+ of 64 channels", faults[0])
    assert f"at most {allowed} round" in faults[0]


def test_rounds_that_would_prune_every_channel_are_told_with_their_path():
    assert re.match(r"trial\.(pr_c|rounds): ", faults_of(space({"pr_c": 0.5, "rounds": 2}))[0])


def test_the_control_without_pruning_needs_no_pr_c():
    arms = SweepConfig.from_dict(space({"criterion": "none", "pr_c": None})).resolved_arms()
    assert [arm.trials[0].k for arm in arms] == [0]


def test_layers_are_listed_in_forward_order():
    faults = faults_of(space({"backbone": "resnet18", "layer": 18}))
    assert re.findall(r"(\d+) \(", faults[0].partition("Known: ")[2]) == [str(index) for index in range(1, 18)]


@pytest.fixture
def needs_a_folder(monkeypatch):
    """A data set "needs-a-folder" whose files are not there."""

    @dataclass(frozen=True)
    class NeedsAFolder(DataSet):
        root: str = "nowhere"
        image_size: int = 32
        class_names = ("a", "b")
        attribute_names = ("sex",)
        privileged_code: ClassVar[int] = 0
        plugin_name: ClassVar[str] = "needs-a-folder"

        def table(self) -> pd.DataFrame:
            raise DataError(f"{self.root} holds no metadata.csv")

    datasets.names()
    monkeypatch.setitem(datasets._classes, "needs-a-folder", NeedsAFolder)
    return {"name": "needs-a-folder", "root": "absent/isic"}


def starts(faults: list[str], *paths: str) -> list[str]:
    """Those of ``paths`` that no fault starts with."""
    return [path for path in paths if not any(fault.startswith(f"{path}: ") for fault in faults)]


def test_missing_data_an_unknown_key_and_a_bad_layer_are_listed_together(needs_a_folder):
    faults = faults_of(space({"dataset": needs_a_folder, "roundss": 3, "layer": 99}))
    assert starts(faults, "trial.dataset", "trial.roundss", "trial.layer") == []
    assert len(faults) == 3
    assert sum("absent/isic holds no metadata.csv" in fault for fault in faults) == 1


def test_missing_data_and_a_bad_layer_are_listed_together(needs_a_folder):
    faults = faults_of(space({"dataset": needs_a_folder, "layer": 99}))
    assert starts(faults, "trial.dataset", "trial.layer") == []


def test_faults_of_every_depth_are_listed_together():
    trial = {"pr_c": 2, "rounds": -1, "train": {"lr": -1, "epochs": "3"}, "criterion": {"name": "snnl", "order": "x"}}
    faults = faults_of(space(trial, resources={"device": "tpu"}, nam="x"))
    paths = ["trial.pr_c", "trial.rounds", "trial.train.lr", "trial.train.epochs", "trial.criterion.order"]
    assert starts(faults, *paths, "resources.device", "nam") == []
    assert len(faults) == 7


@pytest.mark.parametrize(
    "data",
    [
        space(seeds=[0, 0], nam="x"),
        space(grid={"pr_c": []}, nam="x"),
        space(name="a b", nam="x"),
        space({"pr_c": None, "roundz": 3}),
        space({"select": "best", "roundz": 3}),
        space(resources={"gpus_per_trial": 1.5, "cpu": 3}),
    ],
    ids=lambda data: str({key: data[key] for key in data if data[key] != SPACE.get(key)}),
)
def test_a_field_that_is_checked_on_its_own_is_listed_with_an_unknown_key(data):
    faults = faults_of(data)
    assert [fault.count("unknown key") for fault in sorted(faults, key=lambda fault: "unknown key" in fault)] == [0, 1]


def test_a_bad_layer_is_listed_with_an_unknown_key():
    faults = faults_of(space({"layer": 99, "roundz": 3}))
    assert sum("trial.roundz: unknown key" in fault for fault in faults) == 1
    assert sum("99" in fault and "8 (21, 64 channels)" in fault for fault in faults) == 1
    assert len(faults) == 2


def test_faults_of_every_value_of_every_axis_are_listed_together():
    faults = faults_of(space(grid={"layer": [-1, 77, 99], "pr_c": [0.1, 3], "train.lr": [0.1, -2]}, seeds=[]))
    for words in ("77", "99", "got 3 (int)", "got -2 (int)", "seeds: got []"):
        assert sum(words in fault for fault in faults) == 1, words


def test_a_fault_shared_by_all_arms_is_told_once():
    assert len(faults_of(space({"critterion": "snnl"}, grid={"pr_c": [0.1, 0.2], "layer": [-1, -2]}))) == 1


def test_arms_are_the_product_of_the_axes_each_with_all_seeds():
    grid = {"pr_c": [0.05, 0.2], "criterion": ["magnitude", {"name": "snnl", "distance": "cosine"}]}
    data = space(grid=grid, seeds=[3, 1])
    before = copy.deepcopy(data)
    arms = SweepConfig.from_dict(data).resolved_arms()
    assert [arm.label for arm in arms] == [
        "pr_c=0.05, criterion=magnitude",
        "pr_c=0.05, criterion=snnl(distance=cosine)",
        "pr_c=0.2, criterion=magnitude",
        "pr_c=0.2, criterion=snnl(distance=cosine)",
    ]
    assert [arm.settings["pr_c"] for arm in arms] == [0.05, 0.05, 0.2, 0.2]
    assert [[trial.config.seed for trial in arm.trials] for arm in arms] == [[3, 1]] * 4
    assert [arm.trials[0].k for arm in arms] == [3, 3, 13, 13]  # 3.2 and 12.8 of 64
    assert arms[1].trials[0].config.criterion == SNNL(distance="cosine")
    assert data == before


def test_a_space_without_axes_has_one_arm():
    arms = SweepConfig.from_dict(SPACE).resolved_arms()
    assert [(arm.label, arm.settings, len(arm.trials)) for arm in arms] == [("all", {}, 1)]


def test_an_axis_leaves_alone_what_an_anchor_shares_with_its_field() -> None:
    """``train: &plan {...}`` and ``fine_tune: *plan`` are one mapping to the parser, and two settings to us."""
    plan = {"epochs": 1, "batch_size": 8, "lr": 0.01}
    raw = space({"train": plan, "fine_tune": plan}, grid={"fine_tune.lr": [0.1, 0.2]})
    trials = [arm.trials[0].config for arm in SweepConfig.from_dict(raw).resolved_arms()]
    assert [(trial.train.lr, trial.fine_tune.lr) for trial in trials] == [(0.01, 0.1), (0.01, 0.2)]


def test_a_trial_is_read_back_from_its_plain_form():
    plain = {"criterion": {"name": "snnl", "temperature": 0.5}, "layer": "18", "stop": {"enforce": True}, "seed": 4}
    config = TrialConfig.from_dict(TRIAL | plain)
    assert TrialConfig.from_dict(config.as_dict()) == config
    assert (config.criterion, config.layer, config.stop.enforce, config.seed) == (SNNL(temperature=0.5), "18", True, 4)


def test_listed_arms_at_every_point_of_the_grid() -> None:
    """What no product of axes gives: here a layer and a ratio that go together."""
    data = SPACE | {
        "arms": [{"label": "late", "layer": -1, "rounds": 1}, {"layer": 2, "rounds": 2}],
        "grid": {"pr_c": [0.1, 0.2]},
    }
    arms = SweepConfig.from_dict(data).resolved_arms()
    assert [arm.label for arm in arms] == [
        *("late, pr_c=0.1", "late, pr_c=0.2"),
        *("layer=2, rounds=2, pr_c=0.1", "layer=2, rounds=2, pr_c=0.2"),
    ]
    assert arms[3].settings == {"layer": 2, "rounds": 2, "pr_c": 0.2}
    assert [(arm.trials[0].layer.index, arm.trials[0].config.rounds) for arm in arms] == [
        (8, 1),
        (8, 1),
        (2, 2),
        (2, 2),
    ]
    alone = SweepConfig.from_dict(SPACE | {"arms": [{"label": "late", "layer": -1}, {"layer": 2}]}).resolved_arms()
    assert [arm.label for arm in alone] == ["late", "layer=2"]


def test_pick_by_name_or_with_options() -> None:
    named = TrialConfig.from_dict(TRIAL | {"pick": "significant"})
    assert (named.pick.rule, named.pick.q, named.pick.null, named.pick.level) == (
        "significant",
        0.05,
        "within_class",
        0.05,
    )
    full = TrialConfig.from_dict(TRIAL | {"pick": {"rule": "significant", "null": "marginal", "q": 0.2}})
    assert (full.pick.null, full.pick.level) == ("marginal", 0.2)
    assert TrialConfig.from_dict(TRIAL).pick.level is None


def test_a_pick_that_cannot_be_is_refused() -> None:
    assert (
        "pick.attributes: age is no attribute of the data set; it has tone"
        in faults_of(space({"pick": {"attributes": ["age"]}}))[0]
    )
    for criterion in ("magnitude", "random", "none", "activation", "taylor"):
        fault = faults_of(space({"pick": "significant", "criterion": criterion}))[0]
        assert f"pick: criterion {criterion} does not look at the groups" in fault
