"""Which runs of a search are stopped early: the rule, and a whole search, each beside Optuna's own pruner."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from asking import ask
from mlflow import MlflowClient
from optuna.pruners import SuccessiveHalvingPruner
from test_campaign import block, drain, identify, result, study_in
from test_search_sweep import OPEN, command, plain_study

from scp_ray import load_sweep
from scp_ray.config.search import Halving
from scp_ray.tune.campaign import Campaign
from scp_ray.tune.halving import Rungs
from scp_ray.tune.racing import Measured

ONE = {"objectives": {"val_f1": "max"}, "constraints": {}}


def pruner(grace: int, reduction: int) -> SuccessiveHalvingPruner:
    return SuccessiveHalvingPruner(min_resource=grace, reduction_factor=reduction, min_early_stopping_rate=0)


@pytest.mark.parametrize(("grace", "reduction", "rungs"), [(1, 3, [1, 3, 9]), (2, 2, [2, 4, 8]), (5, 4, [5])])
def test_the_rule_is_that_of_optunas_pruner(grace: int, reduction: int, rungs: list[int]) -> None:
    """60 runs of 10 rounds, one after the other: the same runs are stopped at the same rounds."""
    rule, noise = Rungs(Halving(grace, reduction), 10), np.random.default_rng(grace)
    assert rule.rungs == rungs
    study = optuna.create_study(direction="minimize", pruner=pruner(grace, reduction))
    stops = []
    for run in range(60):
        trial, level = study.ask(), noise.normal()
        for step in range(1, 10):
            value = level + 0.3 * noise.normal()
            trial.report(value, step)
            stopped = False
            if step in rungs:
                rule.note(step, 0, str(run), Measured((value,)))
                place, _, last = rule.place(step, 0, str(run))
                stopped = place > last
            assert stopped == trial.should_prune(), (run, step)
            if stopped:
                stops.append(step)
                break
        study.tell(trial, 0.0)
    assert len(stops) > 20
    assert set(stops) == set(rungs)


def test_who_keeps_the_constraints_comes_first_and_seeds_are_apart() -> None:
    rule = Rungs(Halving(1, 2), 5)
    rule.note(1, 0, "breaks", Measured((-0.9,), (0.1, -1.0)))
    rule.note(1, 0, "keeps", Measured((-0.5,), (-0.1, -0.2)))
    rule.note(1, 7, "other seed", Measured((-0.8,), (-0.1, -0.2)))
    assert rule.place(1, 0, "keeps") == (1, 2, 1)
    assert rule.place(1, 0, "breaks") == (2, 2, 1)
    assert rule.place(1, 7, "other seed") == (1, 1, 1)


def test_a_stopped_configuration_is_pruned_in_the_study_and_stays_so(tmp_path: Path) -> None:
    search = block(trials=3, asha={}, objectives={"val_f1": "max"}, constraints={"val_f1": ">= 0.2"})
    study = study_in(tmp_path / "s", search)
    campaign = Campaign(search, study, identify)
    first, second = campaign.next(), campaign.next()
    assert first is not None and second is not None
    assert first.configuration is second.configuration
    campaign.stopped(first, Measured((-0.3,), (-0.1,)), 1, "place 4 of 4 after round 1; 1 of them went on")
    campaign.stopped(second, Measured((-0.2,), (0.0,)), 2, "another seed has ended its configuration")
    drain(campaign, lambda run: Measured(result(run).costs[:1], (-0.1,)))
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "COMPLETE", "COMPLETE"]
    stopped = study.trials[0]
    assert stopped.intermediate_values == {1: 0.3}
    assert stopped.constraints == {"val_f1": -0.1}
    assert stopped.user_attrs["reason"] == "seed 0: place 4 of 4 after round 1; 1 of them went on"
    assert Campaign(search, study, identify, retry_failed=True).over


SEARCH: dict[str, Any] = {
    "sampler": "random",
    "trials": 6,
    "objectives": {"val_f1": "max"},
    "space": {"fine_tune.lr": {"float": [0.0001, 0.5, "log"]}, "pr_c": {"float": [0.02, 0.2, "log"]}},
    "replicates": {"seeds": [0, 1]},
    "asha": {"grace": 1, "reduction": 2},
}
# round:4 of four: a run is worth what its last round gives
TRIAL = OPEN | {"rounds": 4, "select": "round:4", "fine_tune": OPEN["fine_tune"] | {"epochs": 1}}


def check_stops(root: Path, configurations: int) -> dict[str, str]:
    """Every run has ended where Optuna's pruner, told the ledger's numbers in the same order, ends it."""
    sweep, study = load_sweep(root), plain_study(root)
    arms = sorted(sweep.definition["arms"], key=lambda arm: arm["search"]["number"])
    states = [arm["search"]["state"] for arm in arms]
    assert states == [trial.state.name for trial in study.trials]
    assert len(states) == configurations
    judges = {seed: optuna.create_study(direction="maximize", pruner=pruner(1, 2)) for seed in (0, 1)}
    reasons = {}
    for arm, state in zip(arms, states, strict=True):
        stopped = False
        for entry, seed in zip(arm["trials"], (0, 1), strict=True):
            rows = pd.DataFrame(sweep.rounds[sweep.rounds["trial_id"] == entry["trial_id"]])
            if stopped:  # the other seed, which would have come next, was not run
                assert rows.empty
                continue
            trial = judges[seed].ask()
            for row in rows.itertuples():
                if 0 < row.round < 4:
                    trial.report(row.val_f1, row.round)
                    stopped = trial.should_prune()
                assert row.stopped == stopped
            judges[seed].tell(trial, 0.0)
            assert rows["round"].iloc[-1] == (rows.loc[rows["stopped"], "round"].iloc[0] if stopped else 4)
            if stopped:
                reason = rows["stop_reason"].iloc[-1]
                reasons[entry["trial_id"]] = reason.rpartition("asha: ")[2]
        assert state == ("PRUNED" if stopped else "COMPLETE")
    return reasons


@pytest.mark.ray
def test_a_search_stops_early_goes_on_and_says_so(tmp_path: Path) -> None:
    """One run at a time, so that they come to a round in the order of their numbers; the second sweep adds two."""
    one = ("--set", "resources.cpus_per_trial=2", "--set", "resources.threads_per_trial=1")
    for asked in (6, 8):
        words = command(tmp_path, *one, search=SEARCH | {"trials": asked}, trial=TRIAL)
        ended = subprocess.run(words, capture_output=True, text=True, timeout=500)
        assert ended.returncode == 0, ended.stderr
        reasons = check_stops(tmp_path / "miniature", asked)
    assert 2 <= len(reasons) < 8
    assert all(reason.startswith("place ") for reason in reasons.values())
    told = json.loads(ask("status", tmp_path / "miniature", "--json").out)
    assert told["trials"]["stopped"] == len(reasons)
    client = MlflowClient(f"sqlite:///{tmp_path / 'miniature' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'miniature'")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    tags = {run.data.tags["scp_ray.id"]: run.data.tags.get("scp_ray.stopped_early") for run in runs}
    assert {key: reason for key, reason in tags.items() if reason} == reasons
    again = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0
    assert "Nothing to do" in again.stderr
