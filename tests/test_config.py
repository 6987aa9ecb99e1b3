from __future__ import annotations

import copy
import hashlib
import re
import socket
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd
import pytest

from scp_ray.backbones.tiny import Tiny
from scp_ray.config import SweepConfig, TrialConfig, find_space, read_space, resolve, shipped_spaces
from scp_ray.config.parse import read_plugin
from scp_ray.criteria.none import NoPruning
from scp_ray.criteria.snnl import SNNL
from scp_ray.data.base import DataSet, datasets
from scp_ray.errors import ConfigError, DataError, UnknownNameError
from scp_ray.loop.stopping import StopRule
from scp_ray.methods.vanilla import Vanilla
from scp_ray.parts import TrainPlan

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
        SweepConfig.from_dict(data).arms()
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


# -- one fault: its path, what came, what is allowed, the nearest name -----------------------------------------------


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
        (space(grid={"pr_cc": [0.1]}), "trial.pr_cc", ["unknown key", "Did you mean 'pr_c'?"]),
        (space(grid={"train.epoch": [1]}), "trial.train.epoch", ["unknown key", "Did you mean 'epochs'?"]),
        (space(grid={"rounds.n": [1]}), "trial.rounds.n", ["1", "no fields"]),
        (space(grid={"pr_c": []}), "grid.pr_c", ["[]", "at least one value"]),
        (space(grid={"pr_c": 0.1}), "grid.pr_c", ["0.1", "list of at least one value"]),
        (space(grid={"layer": 3}), "grid.layer", ["3", "list of at least one value"]),
        (space(grid={"seed": [1, 2]}), "trial.seed", ["top of the file"]),
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
        assert len(SweepConfig.from_dict(data).arms()) == 1
        return
    faults = faults_of(data)
    assert len(faults) == 1
    assert re.search(rf"trial.pr_c: {pr_c} prunes \d+ of 64 channels", faults[0])
    assert f"at most {allowed} round" in faults[0]


def test_rounds_that_would_prune_every_channel_are_told_with_their_path():
    assert re.match(r"trial\.(pr_c|rounds): ", faults_of(space({"pr_c": 0.5, "rounds": 2}))[0])


def test_the_control_without_pruning_needs_no_pr_c():
    arms = SweepConfig.from_dict(space({"criterion": "none", "pr_c": None})).arms()
    assert [arm.trials[0].k for arm in arms] == [0]


def test_layers_are_listed_in_forward_order():
    faults = faults_of(space({"backbone": "resnet18", "layer": 18}))
    assert re.findall(r"(\d+) \(", faults[0].partition("Known: ")[2]) == [str(index) for index in range(1, 18)]


# -- all faults at once -----------------------------------------------------------------------------------------------


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


# -- YAML, profiles and overrides -------------------------------------------------------------------------------------


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes, **options: Any) -> dict[str, Any]:
        path = tmp_path / "space.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_space(str(path), **options)

    return read


def test_yaml_numbers_and_text(read):
    text = "a: 1e-4\nb: 2E3\nc: -1.5e-3\nd: '1e-4'\ne: 1.0e-4\nf: 1e\ng: 3\nh: conv1e4"
    expected = {"a": 0.0001, "b": 2000.0, "c": -0.0015, "d": "1e-4", "e": 0.0001, "f": "1e", "g": 3, "h": "conv1e4"}
    found = read(text)
    assert found == expected
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in expected.items()}


def test_yaml_anchors_and_merge_keys_are_read(read):
    assert read("a: &plan {lr: 1, epochs: 3}\nb: *plan\nc: {<<: *plan, epochs: 2}") == {
        "a": {"lr": 1, "epochs": 3},
        "b": {"lr": 1, "epochs": 3},
        "c": {"lr": 1, "epochs": 2},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\ntrial: {}\nseeds: [0]\ntrial: {}\n", ["'trial' is given twice", "line 4"]),
        ("trial:\n  rounds: 1\n  train: {lr: 1}\n  rounds: 2\n", ["'rounds' is given twice", "line 4"]),
        ("profiles:\n  p:\n    a.b: 1\n    a.b: 2\n", ["'a.b' is given twice", "line 4"]),
        ("a: !!python/object/apply:os.system ['touch ran']", ["not valid YAML", "python/object/apply:os.system"]),
        ("a: !!python/object:pathlib.Path {}", ["not valid YAML", "python/object"]),
        ("a: !!python/name:os.system", ["not valid YAML", "python/name"]),
        ("a: [1", ["not valid YAML", "line 1"]),
        ("- a", ["a search space is a mapping", "list"]),
        ("", ["a search space is a mapping"]),
        ("? [a]\n: 1", ["line 1", "a key has to be a word"]),
        (b"name: \xff\xfe", ["UTF-8"]),
        ("profiles: 3", ["profiles has to be a mapping", "3"]),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(read, text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert [word for word in ["space.yaml", *words] if word.lower() not in str(caught.value).lower()] == []
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


PROFILED = """
trial: {backbone: vgg11, rounds: 5}
profiles:
  smoke: {trial.backbone: tiny, trial.train.lr: 0.5, seeds: [7]}
  odd: 3
  odder: {3: 4}
"""


def test_a_profile_changes_what_it_names_and_is_no_part_of_the_definition(read):
    assert read(PROFILED) == {"trial": {"backbone": "vgg11", "rounds": 5}}
    assert read(PROFILED, profile="smoke") == {
        "trial": {"backbone": "tiny", "rounds": 5, "train": {"lr": 0.5}},
        "seeds": [7],
    }


def test_overrides_win_over_the_profile_in_their_order(read):
    found = read(PROFILED, profile="smoke", overrides=["seeds=[1]", "trial.rounds=2", "trial.rounds=3"])
    assert (found["seeds"], found["trial"]["rounds"], found["trial"]["backbone"]) == ([1], 3, "tiny")


def test_an_unknown_profile_names_the_nearest_one(read):
    with pytest.raises(UnknownNameError, match=r"profile 'smok' not found\. Did you mean 'smoke'\?"):
        read(PROFILED, profile="smok")


@pytest.mark.parametrize("profile", ["odd", "odder"])
def test_a_profile_that_holds_no_paths_is_refused(read, profile):
    with pytest.raises(ConfigError, match=profile):
        read(PROFILED, profile=profile)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("grid.pr_c=[0.02]", {"a": {"b": 1}, "c": "snnl", "grid": {"pr_c": [0.02]}}),
        ("a.b=2", {"a": {"b": 2}, "c": "snnl"}),
        ("a.d.e=x", {"a": {"b": 1, "d": {"e": "x"}}, "c": "snnl"}),
        ("c.distance=cosine", {"a": {"b": 1}, "c": {"name": "snnl", "distance": "cosine"}}),
        ("c=random", {"a": {"b": 1}, "c": "random"}),
        ("a.b=1e-4", {"a": {"b": 0.0001}, "c": "snnl"}),
        ("a={name: synthetic, image_size: 64}", {"a": {"name": "synthetic", "image_size": 64}, "c": "snnl"}),
        ("a.root=x=y", {"a": {"b": 1, "root": "x=y"}, "c": "snnl"}),
        ("a.b=true", {"a": {"b": True}, "c": "snnl"}),
    ],
)
def test_an_override_sets_a_dotted_path(read, override, expected):
    assert read("a: {b: 1}\nc: snnl", overrides=[override]) == expected


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a.b", "'a.b': write it as a.b=value"),
        ("=3", "'=3': write it as a.b=value"),
        ("a.b.c.d=3", "a.b is 1, which has no fields"),
        ("a.b=[1", "a.b=[1"),
        ("a={b: 1, b: 2}", "'b' is given twice"),
        ("a=!!python/name:os.system", "not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_set_is_refused(read, override, words):
    with pytest.raises(ConfigError) as caught:
        read("a: {b: 1}", overrides=[override])
    assert words in str(caught.value)


def test_an_unknown_space_names_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"'quickstrat' not found\. Did you mean 'quickstart'\?"):
        find_space("quickstrat")


# -- arms -------------------------------------------------------------------------------------------------------------


def test_arms_are_the_product_of_the_axes_each_with_all_seeds():
    grid = {"pr_c": [0.05, 0.2], "criterion": ["magnitude", {"name": "snnl", "distance": "cosine"}]}
    data = space(grid=grid, seeds=[3, 1])
    before = copy.deepcopy(data)
    arms = SweepConfig.from_dict(data).arms()
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
    arms = SweepConfig.from_dict(SPACE).arms()
    assert [(arm.label, arm.settings, len(arm.trials)) for arm in arms] == [("all", {}, 1)]


def test_a_trial_is_read_back_from_its_plain_form():
    plain = {"criterion": {"name": "snnl", "temperature": 0.5}, "layer": "18", "stop": {"enforce": True}, "seed": 4}
    config = TrialConfig.from_dict(TRIAL | plain)
    assert TrialConfig.from_dict(config.as_dict()) == config
    assert (config.criterion, config.layer, config.stop.enforce, config.seed) == (SNNL(temperature=0.5), "18", True, 4)


# -- identity ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed(DataSet):
    """Four images that need no file."""

    image_size: int = 32
    root: str = "here"
    labels: tuple[int, ...] = (0, 1, 1, 0)
    sexes: tuple[int, ...] = (1, 0, 1, 0)
    splits: tuple[str, ...] = ("train", "train", "val", "test")

    class_names = ("mel", "nv")
    attribute_names = ("sex",)
    privileged_code: ClassVar[int] = 0
    plugin_name: ClassVar[str] = "listed"

    def table(self) -> pd.DataFrame:
        names = ["ISIC_0", "ISIC_1", "ISIC_2", "ISIC_3"]
        columns = {"id": names, "unit": names, "label": self.labels, "split": self.splits, "sex": self.sexes}
        return pd.DataFrame(columns | {"path": [f"{self.root}/{name}.jpg" for name in names]})


PLAN = {"momentum": 0.8, "nesterov": False, "weight_decay": 0.0001, "lr_step": 2, "lr_gamma": 0.5, "augment": "none"}
SPELLED_OUT = TrialConfig(
    dataset=Listed(),
    backbone=Tiny(weights="none"),
    method=Vanilla(),
    criterion=SNNL("cosine", 0.5, "numerator_only", batch_size=64, order="table", last_batch="drop"),
    pr_c=0.1,  # 6.4 of 64 channels
    layer=-1,
    rounds=3,
    train=TrainPlan(epochs=4, batch_size=16, lr=0.05, **PLAN),
    fine_tune=TrainPlan(epochs=1, batch_size=8, lr=0.01, **PLAN),
    stop=StopRule(th_acc=0.05, th_fair=0.01, gap="eopp1", enforce=False),
    select="last",
    mask="full",
    seed=3,
)

# id, label, sex and split of every row
TABLE = (
    "ISIC_0\x1f0\x1f1\x1ftrain\x1eISIC_1\x1f1\x1f0\x1ftrain\x1eISIC_2\x1f1\x1f1\x1fval\x1eISIC_3\x1f0\x1f0\x1ftest\x1e"
)
TABLE_SHA256 = "af03d8ef04d99db541c1bae637fab2ba649b082c6626b03c34ca69383e0a3ac8"
BASE_JSON = (
    '{"backbone":{"name":"tiny","weights":"none"},'
    '"data":{"decode":1,"image_size":32,"table":"af03d8ef04d99db541c1bae637fab2ba649b082c6626b03c34ca69383e0a3ac8"},'
    '"method":{"name":"vanilla","needs":[]},'
    '"seed":3,'
    '"train":{"augment":"none","batch_size":16,"epochs":4,"lr":0.05,"lr_gamma":0.5,"lr_step":2,"momentum":0.8,'
    '"nesterov":false,"weight_decay":0.0001}}'
)
TRIAL_JSON = (
    '{"backbone":{"name":"tiny","weights":"none"},'
    '"criterion":{"batch_size":64,"distance":"cosine","last_batch":"drop","name":"snnl","order":"table",'
    '"self_pair":"numerator_only","temperature":0.5},'
    '"data":{"decode":1,"image_size":32,"table":"af03d8ef04d99db541c1bae637fab2ba649b082c6626b03c34ca69383e0a3ac8"},'
    '"fine_tune":{"augment":"none","batch_size":8,"epochs":1,"lr":0.01,"lr_gamma":0.5,"lr_step":2,"momentum":0.8,'
    '"nesterov":false,"weight_decay":0.0001},'
    '"k":6,"layer":"21","mask":"full",'
    '"method":{"name":"vanilla","needs":[]},'
    '"seed":3,'
    '"train":{"augment":"none","batch_size":16,"epochs":4,"lr":0.05,"lr_gamma":0.5,"lr_step":2,"momentum":0.8,'
    '"nesterov":false,"weight_decay":0.0001}}'
)
BASE_ID, TRIAL_ID = "0f50c9252a476e13", "7ac8035fa2249131"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_fixed_vectors_of_both_hashes():
    """A ledger of an earlier version is found again: a change here orphans every trial that was ever run."""
    assert sha256(TABLE) == TABLE_SHA256
    assert sha256(BASE_JSON)[:16] == BASE_ID
    assert sha256(TRIAL_JSON)[:16] == TRIAL_ID
    resolved = resolve(SPELLED_OUT)
    assert (resolved.base_id, resolved.vanilla_id, resolved.trial_id) == (BASE_ID, BASE_ID, TRIAL_ID)
    assert (resolved.k, resolved.layer.name, resolved.layer.index) == (6, "21", 8)
    assert [*resolved.bases()] == [BASE_ID]


def plan(**changes: Any) -> dict[str, Any]:
    return {"fine_tune": replace(SPELLED_OUT.fine_tune, **changes)}


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": Listed(root="elsewhere")},
        {"rounds": 1},
        {"select": "round:1"},
        {"stop": StopRule(th_acc=0.5, th_fair=0.1, gap="eodd", enforce=False)},
        {"pr_c": 0.0859375},  # 5.5 of 64: rounds up to 6 as well
        {"pr_c": 0.09},
        {"layer": 8},
        {"layer": "21"},
    ],
    ids=str,
)
def test_what_does_not_change_the_numbers_does_not_change_the_ids(changes):
    resolved = resolve(replace(SPELLED_OUT, **changes))
    assert (resolved.trial_id, resolved.base_id) == (TRIAL_ID, BASE_ID)


@pytest.mark.parametrize(
    ("changes", "base_changes"),
    [
        ({"seed": 4}, True),
        ({"dataset": Listed(labels=(0, 1, 1, 1))}, True),
        ({"dataset": Listed(sexes=(1, 0, 1, 1))}, True),
        ({"dataset": Listed(splits=("train", "val", "val", "test"))}, True),
        ({"dataset": Listed(image_size=64)}, True),
        ({"train": replace(SPELLED_OUT.train, epochs=5)}, True),
        ({"train": replace(SPELLED_OUT.train, weight_decay=0.0)}, True),
        ({"pr_c": 0.11}, False),  # 7.04 of 64
        ({"layer": 7}, False),
        ({"criterion": replace(SPELLED_OUT.criterion, temperature=0.25)}, False),
        ({"criterion": replace(SPELLED_OUT.criterion, batch_size=32)}, False),
        (plan(epochs=2), False),
        (plan(augment="flips"), False),
        ({"mask": "released"}, False),
        ({"stop": replace(SPELLED_OUT.stop, enforce=True)}, False),
    ],
    ids=str,
)
def test_what_changes_the_numbers_changes_the_ids(changes, base_changes):
    resolved = resolve(replace(SPELLED_OUT, **changes))
    assert resolved.trial_id != TRIAL_ID
    assert (resolved.base_id != BASE_ID) == base_changes


def test_thresholds_of_an_enforced_stop_count():
    stops = [StopRule(enforce=True), StopRule(th_acc=0.05, enforce=True), StopRule(gap="eopp0", enforce=True)]
    assert len({resolve(replace(SPELLED_OUT, stop=stop)).trial_id for stop in stops}) == 3


def test_the_control_without_pruning_ignores_layer_and_pr_c():
    control = replace(SPELLED_OUT, criterion=NoPruning())
    others = [replace(control, **change) for change in ({"pr_c": 0.3}, {"pr_c": None}, {"layer": 2})]
    assert {resolve(config).trial_id for config in [control, *others]} == {resolve(control).trial_id}
    assert resolve(control).trial_id != TRIAL_ID


def test_weights_count_by_their_content_not_by_their_path(tmp_path):
    ids = []
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
        ids.append(resolve(replace(SPELLED_OUT, backbone=Tiny(weights=str(tmp_path / name)))).base_id)
    assert ids[0] == ids[1] != ids[2]
    assert BASE_ID not in ids


def test_a_whole_number_for_a_number_is_the_same_trial():
    spelled = [{"train": {"lr": one}, "criterion": {"name": "snnl", "temperature": one}} for one in (1, 1.0)]
    first, second = (SweepConfig.from_dict(space(trial)).arms()[0].trials[0] for trial in spelled)
    assert (first.base_id, first.trial_id) == (second.base_id, second.trial_id)


def test_circumstances_of_a_sweep_do_not_change_its_ids(read):
    text = (
        "name: a\n"
        "trial: {dataset: {name: synthetic, image_size: 32}, backbone: tiny, pr_c: 0.1, rounds: 1}\n"
        "profiles:\n"
        "  same: {name: b, trial.rounds: 2, resources.cpus_per_trial: 2, resources.device: cpu, keep_models: none}\n"
        "  other: {seeds: [1]}\n"
    )
    plain, same, other = (
        SweepConfig.from_dict(read(text, profile=profile)).arms()[0].trials[0] for profile in (None, "same", "other")
    )
    assert (same.trial_id, same.base_id, same.config.rounds) == (plain.trial_id, plain.base_id, 2)
    assert other.trial_id != plain.trial_id


# -- the spaces that come with the package ----------------------------------------------------------------------------

# by hand: k of every arm, and the number of seeds
VGG_LAYERS = [1, 3, 5, 5, 10, 10, 10, 10]  # 0.02 of 64, 128, 256, 256 and four times 512 channels
SHIPPED = {
    ("fig2a-pruning-ratio", None): ([5, 10, 15, 26, 51], 5),  # of 512
    ("fig2a-pruning-ratio", "smoke"): ([1, 1, 2, 3, 6], 2),  # of 64
    ("fig2b-layer", None): (VGG_LAYERS, 5),
    ("fig2b-layer", "smoke"): ([1] * 8, 2),  # at most 1.28
    ("isic2019-mini", None): ([10, 51], 2),  # of 512
    ("quickstart", None): ([3, 3, 13, 13], 2),  # of 64 on either layer
}
VARIANTS = [
    (stem, profile)
    for stem, path in shipped_spaces().items()
    for profile in [None, *re.findall(r"^  ([\w-]+):", path.read_text().partition("\nprofiles:")[2], re.MULTILINE)]
]


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_every_shipped_space_is_counted_here():
    assert set(VARIANTS) == set(SHIPPED)


@pytest.mark.parametrize(("stem", "profile"), VARIANTS)
def test_a_shipped_space_has_the_arms_it_says(stem, profile, no_network):
    raw = read_space(stem, profile=profile, overrides=["trial.dataset={name: synthetic, image_size: 64}"])
    arms = SweepConfig.from_dict(raw).arms()
    ks, seeds = SHIPPED[stem, profile]
    assert [arm.trials[0].k for arm in arms] == ks
    assert {len(arm.trials) for arm in arms} == {seeds}


@pytest.mark.parametrize(("stem", "profile"), VARIANTS)
def test_the_data_set_of_a_shipped_space_can_be_named(stem, profile):
    faults: list[str] = []
    data_set = read_plugin(datasets, read_space(stem, profile=profile)["trial"]["dataset"], "trial.dataset", faults)
    assert faults == []
    assert isinstance(data_set, DataSet)


@pytest.mark.parametrize("stem", shipped_spaces())
def test_a_shipped_space_opens_with_its_question_its_command_and_its_costs(stem):
    text = shipped_spaces()[stem].read_text(encoding="utf-8")
    opening = text.partition("\nname:")[0].splitlines()
    assert all(line.startswith("# ") for line in opening)
    assert "?" in opening[0]
    assert any(re.search(rf"scp-ray sweep {stem}(\s|$)", line) for line in opening)
    assert any(re.match(r"# Costs: .*\d+ base models? .*\d+ trials", line) for line in opening)
    # the ledger's folder is the name that was asked for
    assert re.search(r"^name: (.*)$", text, re.MULTILINE)[1] == stem
