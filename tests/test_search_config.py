"""The search block: what is read, and what is refused with which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from miniature import SPACE, TRIAL

from scp_ray.config import SweepConfig
from scp_ray.config.objectives import Constraint, Objective, known_metrics
from scp_ray.config.yaml import _load
from scp_ray.errors import ConfigError

SEARCH: dict[str, Any] = {
    "objectives": {"val_f1": "max", "val_eodd": "min"},
    "constraints": {"val_f1": ">= 0.97 * vanilla", "val_eodd": "<= base", "val_accuracy": ">= 0.4"},
    "space": {
        "pr_c": {"float": [0.01, 0.16, "log"]},
        "layer": {"choice": [-1, -2]},
        "method[mfd].sigma": {"float": [0.25, 2.0]},
        "method": {"choice": ["vanilla", "mfd"]},
    },
    "replicates": {"seeds": [3, 4, 5], "start": 2, "race": True},
}
BASE = {key: value for key, value in TRIAL.items() if key != "pr_c"}


def space(search: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {key: value for key, value in SPACE.items() if key != "seeds"} | {"trial": BASE, "search": search} | more


def faults(search: dict[str, Any], **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        SweepConfig.from_dict(space(search, **more)).resolved_arms()
    return list(refused.value.faults)


def test_a_block_is_read() -> None:
    config = SweepConfig.from_dict(space(SEARCH))
    search = config.search
    assert search is not None
    assert search.objectives == [Objective("val_f1", "max"), Objective("val_eodd", "min")]
    assert search.constraints[0] == Constraint("val_f1", ">=", 0.97, "vanilla")
    assert search.constraints[1] == Constraint("val_eodd", "<=", 1.0, "base")
    assert search.constraints[2] == Constraint("val_accuracy", ">=", 0.4, None)
    assert config.seeds == [3, 4, 5]
    assert search.replicates.first == [3, 4]
    assert [dimension.path for dimension in search.space] == ["pr_c", "layer", "method", "method.sigma"]


def test_how_far_a_constraint_is_missed() -> None:
    """0.97 * 0.8 = 0.776: 0.7 misses it by 0.076, 0.8 keeps it by 0.024."""
    bound = Constraint("val_f1", ">=", 0.97, "vanilla")
    assert bound.violation(0.7, 0.8) == pytest.approx(0.076)
    assert bound.violation(0.8, 0.8) == pytest.approx(-0.024)
    assert Constraint("val_eodd", "<=", 0.1).violation(0.3, 1.0) == pytest.approx(0.2)


def test_the_middle_of_the_space_is_where_it_starts_unless_told() -> None:
    """sqrt(0.01 * 0.16) = 0.04; the first of each choice."""
    (arm,) = SweepConfig.from_dict(space(SEARCH)).resolved_arms()
    assert arm.label == "pr_c=0.04, layer=-1, method=vanilla"
    assert [trial.config.seed for trial in arm.trials] == [3, 4]


def test_a_conditional_field_counts_under_its_choice_alone() -> None:
    config = SweepConfig.from_dict(space(SEARCH))
    point = {"pr_c": 0.1, "layer": -2, "method": "mfd", "method[mfd].sigma": 0.5}
    arm = config.arm_at(point, [4])
    assert arm.label == "pr_c=0.1, layer=-2, method=mfd, method[mfd].sigma=0.5"
    assert arm.trials[0].config.method.sigma == 0.5  # type: ignore[attr-defined]
    plain = config.arm_at(point | {"method": "vanilla"}, [4])
    assert plain.label == "pr_c=0.1, layer=-2, method=vanilla"


def test_every_number_on_validation_can_be_an_objective() -> None:
    known = known_metrics()
    assert {"val_f1", "val_eodd", "val_fate_eodd_vanilla"} <= set(known)
    assert not any(name.startswith("test_") for name in known)
    assert known["val_f1"]
    assert not known["val_fate_eodd_base"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": {"test_f1": "max"}}, "search.objectives.test_f1: the test split is never searched"),
        ({"objectives": {"val_f2": "max"}}, "search.objectives.val_f2: unknown key. Did you mean 'val_f1'?"),
        ({"objectives": {"val_f1": "up"}}, "search.objectives.val_f1: got 'up'; allowed is 'max' or 'min'."),
        ({"objectives": {}}, "search.objectives: got {}; allowed is a mapping"),
        ({"constraints": {"val_f1": "> 0.3"}}, "search.constraints.val_f1: got '> 0.3'; allowed are bounds"),
        ({"constraints": {"val_fate_eodd_base": ">= 0.1 * vanilla"}}, "the vanilla base model has no FATE"),
        ({"sampler": "tpee"}, "search.sampler: got 'tpee'"),
        ({"space": {"pr_c": {"float": [0.2, 0.1]}}}, "search.space.pr_c: got {'float': [0.2, 0.1]}"),
        ({"space": {"pr_c": {"float": [0, 0.1, "log"]}}}, "on a log scale low has to be above 0"),
        ({"space": {"pr_c": {"int": [0.1, 2]}}}, "search.space.pr_c: got"),
        ({"space": {"pr_c": {"choice": [0.1, 0.1]}}}, "a list of different choices"),
        ({"space": {"dataset.root": {"choice": ["a", "b"]}}}, "search.space.dataset.root: cannot be searched"),
        ({"space": {"rounds": {"int": [1, 3]}}}, "search.space.rounds: cannot be searched"),
        ({"space": SEARCH["space"] | {"method[hsic].x": {"int": [1, 2]}}}, "method has no choice 'hsic'"),
        (
            {"space": SEARCH["space"] | {"layers": {"choice": [1]}}},
            "search.space.layers: unknown key. Did you mean 'layer'?",
        ),
        ({"space": SEARCH["space"] | {"layer": {"choice": [-1, 99]}}}, "99 not found"),
        ({"space": SEARCH["space"] | {"pr_c": {"float": [0.01, 0.9]}}}, "would leave none"),
        ({"warm_start": [{"pr_c": 0.5, "layer": -1, "method": "vanilla"}]}, "warm_start[0].pr_c: got 0.5"),
        ({"warm_start": [{"pr_c": 0.1, "layer": -1}]}, "warm_start[0].method: missing"),
        ({"warm_start": [{"layr": 1, "pr_c": 0.1, "layer": -1, "method": "vanilla"}]}, "Did you mean 'layer'?"),
        (
            {"warm_start": [{"pr_c": 0.1, "layer": -1, "method": "vanilla", "method[mfd].sigma": 1}]},
            "counts only where method is mfd",
        ),
        ({"replicates": {"seeds": [0, 0]}}, "search.replicates.seeds: got [0, 0]"),
        ({"replicates": {"seeds": [0, 1], "start": 1}}, "Set race: true, or leave start out"),
        ({"replicates": {"seeds": [0], "start": 2, "race": True}}, "at most the 1 seeds"),
        ({"storage": "postgresql://me:secret@host/db"}, "search.storage: a password would be written"),
        ({"storage": "postgresql://host/db?user=me&password=secret"}, "search.storage: a password would be written"),
        ({"storage": "mysql+pymysql://me:se/cret@$HOST/db?x=secret"}, "search.storage: a password would be written"),
        ({"storage": "postgresql://host/db?sslpassword=secret", "trials": 0}, "search.storage: a password would be"),
        ({"storage": {"url": "postgresql://me:secret@host/db"}}, "search.storage: got dict; allowed is an Optuna URL"),
        ({"trials": 0}, "search.trials: got 0"),
        ({"asha": {}}, "search.asha: got 2 objectives; runs are ranked by one"),
        ({"asha": {"reduction": 1}}, "search.asha.reduction: got 1 (int); allowed is a whole number >= 2"),
        ({"asha": {"every": 1}}, "search.asha.every: unknown key"),
        ({"asha": {"grace": 5}, "objectives": {"val_f1": "max"}, "replicates": {}}, "got 5 with rounds: 2, so no run"),
        (
            {"asha": {}, "objectives": {"val_f1": "max"}, "replicates": {"seeds": [0, 1], "start": 1, "race": True}},
            "search.asha: does not go with replicates.race",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(changes: dict[str, Any], words: str) -> None:
    told = faults(SEARCH | changes)
    assert any(words in fault for fault in told), told
    assert not any("secret" in fault for fault in told)


@pytest.mark.parametrize(
    "storage",
    [
        *("$STUDIES", "postgresql://host/db", "postgresql://me@host:5432/db", "sqlite:////data/me:me@home/studies.db"),
        *("postgresql://me:$PASSWORD@host/db", "postgresql://host/db?password=${PASSWORD}&sslmode=require"),
    ],
)
def test_a_storage_without_a_password_is_taken(storage: str) -> None:
    search = SweepConfig.from_dict(space(SEARCH | {"storage": storage})).search
    assert search is not None
    assert search.storage == storage


def test_axes_are_written_without_trial() -> None:
    told = faults(SEARCH | {"space": {"trial.pr_c": {"float": [0.01, 0.1]}, "layer": {"choice": [-1]}}})
    assert told == ["search.space.trial.pr_c: axes are written without 'trial.', since all are below it: write pr_c."]


def test_what_is_missing_is_told_in_the_form_that_is_read() -> None:
    """The examples themselves are read."""
    told = faults({})
    assert [fault.partition(":")[0] for fault in told] == ["search.objectives", "search.space"]
    forms = [re.search(r"e\.g\. (\{.*\})\.$", fault) for fault in told]
    objectives, axes = (_load(found[1], "") for found in forms if found)
    SweepConfig.from_dict(space({"objectives": objectives, "space": axes})).check()
    for fault, form in zip(faults({"objectives": ["val_f1"], "space": [1]}), ("{val_f1: max", "{pr_c: "), strict=True):
        assert "allowed is a mapping" in fault
        assert form in fault


@pytest.mark.parametrize("key", ["grid", "arms", "seeds"])
def test_a_search_does_not_go_with(key: str) -> None:
    value = {"grid": {"pr_c": [0.1]}, "arms": [{"pr_c": 0.1}], "seeds": [0]}[key]
    assert any(fault.startswith(f"{key}: does not go with search") for fault in faults(SEARCH, **{key: value}))


def test_all_faults_are_told_at_once() -> None:
    told = faults(SEARCH | {"objectives": {"val_f2": "max"}, "sampler": "tpee", "trials": 0})
    assert len(told) == 3


def test_the_space_of_docs_is_read() -> None:
    """Only the data set, which is not here, is replaced, and the network, whose weights are not."""
    text = (Path(__file__).parents[1] / "docs" / "search.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    raw = _load(block, "docs/search.md")
    raw["trial"] |= {"dataset": "synthetic", "backbone": "vgg11"}
    (arm,) = SweepConfig.from_dict(raw).resolved_arms()
    assert arm.label == "pr_c=0.02, layer=-1, method=vanilla, fine_tune.lr=0.01"
