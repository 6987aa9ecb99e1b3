"""What makes two trials the same: fixed vectors of both hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd
import pytest

from scp_ray.backbones.tiny import Tiny
from scp_ray.config import SweepConfig, TrialConfig, resolve
from scp_ray.config.identity import scores_id
from scp_ray.criteria.none import NoPruning
from scp_ray.criteria.snnl import SNNL
from scp_ray.data.base import DataSet
from scp_ray.ledger.definition import define
from scp_ray.loop.picking import Pick
from scp_ray.loop.stopping import StopRule
from scp_ray.methods.adv_conf import AdvConf
from scp_ray.methods.adv_ref import AdvRef
from scp_ray.methods.base import Joined
from scp_ray.methods.obd import OBD
from scp_ray.methods.vanilla import Vanilla
from scp_ray.parts import TrainPlan

TRIAL = {"dataset": {"name": "synthetic", "image_size": 32}, "backbone": "tiny", "pr_c": 0.1, "rounds": 1}
SPACE = {"name": "test", "trial": TRIAL}


def space(trial: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """SPACE with some fields of the trial and some of the top changed; a value of None takes a field away."""
    changed = TRIAL | (trial or {})
    return SPACE | {"trial": {key: value for key, value in changed.items() if value is not None}} | top


@dataclass(frozen=True)
class Listed(DataSet):
    """Four images that need no file."""

    image_size: int = 32
    root: str = "here"
    labels: tuple[int, ...] = (0, 1, 1, 0)
    sexes: tuple[int, ...] = (1, 0, 1, 0)
    splits: tuple[str, ...] = ("train", "train", "val", "test")
    lesions: tuple[str, ...] = ("ISIC_0", "ISIC_1", "ISIC_2", "ISIC_3")

    class_names = ("mel", "nv")
    attribute_names = ("sex",)
    privileged_code: ClassVar[int] = 0
    plugin_name: ClassVar[str] = "listed"

    def table(self) -> pd.DataFrame:
        names = ["ISIC_0", "ISIC_1", "ISIC_2", "ISIC_3"]
        columns = {"id": names, "unit": self.lesions, "label": self.labels, "split": self.splits, "sex": self.sexes}
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
    '"data":{"decode":2,"image_size":32,"table":"af03d8ef04d99db541c1bae637fab2ba649b082c6626b03c34ca69383e0a3ac8"},'
    '"method":{"name":"vanilla","needs":[]},'
    '"seed":3,'
    '"train":{"augment":"none","batch_size":16,"epochs":4,"lr":0.05,"lr_gamma":0.5,"lr_step":2,"momentum":0.8,'
    '"nesterov":false,"weight_decay":0.0001}}'
)
TRIAL_JSON = (
    '{"backbone":{"name":"tiny","weights":"none"},'
    '"criterion":{"batch_size":64,"distance":"cosine","last_batch":"drop","name":"snnl","order":"table",'
    '"self_pair":"numerator_only","temperature":0.5},'
    '"data":{"decode":2,"image_size":32,"table":"af03d8ef04d99db541c1bae637fab2ba649b082c6626b03c34ca69383e0a3ac8"},'
    '"fine_tune":{"augment":"none","batch_size":8,"epochs":1,"lr":0.01,"lr_gamma":0.5,"lr_step":2,"momentum":0.8,'
    '"nesterov":false,"weight_decay":0.0001},'
    '"k":6,"layer":"21","mask":"full",'
    '"method":{"name":"vanilla","needs":[]},'
    '"seed":3,'
    '"train":{"augment":"none","batch_size":16,"epochs":4,"lr":0.05,"lr_gamma":0.5,"lr_step":2,"momentum":0.8,'
    '"nesterov":false,"weight_decay":0.0001}}'
)
BASE_ID, TRIAL_ID = "9661da5b0ede6fd1", "f5049b35b6cd3f14"


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


ADVERSARY_JSON = (
    '"method":{"adversary_lr":0.001,"alpha":1.0,"clip_norm":5.0,"name":"adv-conf","needs":[],%s"schedule":"step",'
    '"training_ratio":3}'
)


@pytest.mark.parametrize(
    ("epochs", "fine_tuned", "changes", "moved"),
    [
        (2, 2, {}, (False, False)),  # the learning rate falls after the second epoch
        (4, 2, {}, (True, False)),
        (2, 3, {}, (False, True)),
        (2, 3, {"loss": "ce"}, (False, False)),  # without the method's loss the head takes no step
        (4, 3, {"lr_gamma": 1.0}, (False, False)),
    ],
)
def test_adversaries_have_new_ids_where_their_numbers_moved_and_nowhere_else(epochs, fine_tuned, changes, moved):
    """Until then the head's learning rate fell with the network's."""
    train = replace(SPELLED_OUT.train, epochs=epochs, lr_gamma=changes.get("lr_gamma", 0.5))
    fine_tune = replace(SPELLED_OUT.fine_tune, epochs=fine_tuned, **changes)
    resolved = resolve(replace(SPELLED_OUT, method=AdvConf(), train=train, fine_tune=fine_tune))
    in_method, in_fine_tune = ('"revision":1,' * each for each in moved)
    expected = TRIAL_JSON.replace('"method":{"name":"vanilla","needs":[]}', ADVERSARY_JSON % in_method)
    expected = expected.replace('"epochs":4', f'"epochs":{epochs}').replace('"epochs":1', f'"epochs":{fine_tuned}')
    expected = expected.replace('"lr_gamma":0.5', f'"lr_gamma":{train.lr_gamma}')
    begin, middle, end = expected.partition('"k":6')
    if "loss" in changes:
        begin = begin.replace('"lr":0.01', '"loss":"ce","lr":0.01')
    begin = begin.replace('"nesterov":false,', f'"nesterov":false,{in_fine_tune}')
    assert resolved.trial_id == sha256(begin + middle + end)[:16]
    base = BASE_JSON.replace('"method":{"name":"vanilla","needs":[]}', ADVERSARY_JSON % in_method)
    base = base.replace('"epochs":4', f'"epochs":{epochs}').replace('"lr_gamma":0.5', f'"lr_gamma":{train.lr_gamma}')
    assert resolved.base_id == sha256(base)[:16]


def test_what_is_put_on_an_adversary_has_a_new_id_too():
    joined = replace(SPELLED_OUT, method=Joined(AdvRef(), OBD()))
    assert [method.revision(joined.train) for method in (joined.method, AdvRef(), OBD())] == [1, 1, 0]
    assert [method.revision(joined.fine_tune) for method in (joined.method, AdvRef())] == [0, 0]


def test_an_arm_does_not_mix_seeds_of_two_versions():
    first, again = (SweepConfig.from_dict(space(seeds=seeds)) for seeds in ([0, 1, 2], [1, 2, 3]))
    before = define(first, first.resolved_arms(), None)
    assert [each["seed"] for each in define(again, again.resolved_arms(), before)["arms"][0]["trials"]] == [0, 1, 2, 3]
    for trial in before["arms"][0]["trials"]:
        trial["trial_id"] = f"once {trial['seed']}"
    after = define(again, again.resolved_arms(), before)["arms"][0]["trials"]
    assert [each["seed"] for each in after] == [1, 2, 3]
    assert not any(each["trial_id"].startswith("once") for each in after)


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
        (plan(sampler="plain"), False),
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


def test_units_decide_what_is_significant_and_nothing_else():
    """Where each image is its own, ids are what they were before units counted."""
    lesions = Listed(lesions=("L1", "L1", "ISIC_2", "ISIC_3"))
    assert resolve(replace(SPELLED_OUT, dataset=lesions)).trial_id == TRIAL_ID
    significant = [replace(SPELLED_OUT, pick=Pick("significant"), dataset=data_set) for data_set in (Listed(), lesions)]
    alone, together = (resolve(config) for config in significant)
    assert (alone.base_id, together.base_id) == (BASE_ID, BASE_ID)
    text = '"pick":{"null":"within_class","permutations":100,"q":0.05,"rule":"significant"UNITS},'
    units = f',"units":"{sha256(chr(0x1E).join(lesions.lesions))}"'
    for resolved, added in ((alone, ""), (together, units)):
        json_text = TRIAL_JSON.replace('"seed":3', text.replace("UNITS", added) + '"seed":3')
        assert resolved.trial_id == sha256(json_text)[:16]
    scores = [scores_id(config, alone.layer) for config in significant]
    assert scores[0] != scores[1]


def test_weights_count_by_their_content_not_by_their_path(tmp_path):
    ids = []
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
        ids.append(resolve(replace(SPELLED_OUT, backbone=Tiny(weights=str(tmp_path / name)))).base_id)
    assert ids[0] == ids[1] != ids[2]
    assert BASE_ID not in ids


def test_a_whole_number_for_a_number_is_the_same_trial():
    spelled = [{"train": {"lr": one}, "criterion": {"name": "snnl", "temperature": one}} for one in (1, 1.0)]
    first, second = (SweepConfig.from_dict(space(trial)).resolved_arms()[0].trials[0] for trial in spelled)
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
        SweepConfig.from_dict(read(text, profile=profile)).resolved_arms()[0].trials[0]
        for profile in (None, "same", "other")
    )
    assert (same.trial_id, same.base_id, same.config.rounds) == (plain.trial_id, plain.base_id, 2)
    assert other.trial_id != plain.trial_id
