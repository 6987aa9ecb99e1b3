"""Which configuration runs with which seed, and what Optuna's storage holds of it: without Ray and without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from scp_ray.config.search import SearchConfig
from scp_ray.errors import ConfigError
from scp_ray.tune.campaign import Campaign, Run
from scp_ray.tune.racing import Measured
from scp_ray.tune.samplers import directions
from scp_ray.tune.study import Study

optuna.logging.set_verbosity(optuna.logging.ERROR)

BLOCK: dict[str, Any] = {
    "trials": 12,
    "objectives": {"val_f1": "max", "val_eodd": "min"},
    "space": {
        "pr_c": {"float": [0.01, 0.2, "log"]},
        "layer": {"choice": [-1, -2]},
        "method": {"choice": ["vanilla", {"name": "mfd", "weight": 2}]},
        "method[mfd].sigma": {"float": [0.25, 2.0]},
    },
    "replicates": {"seeds": [0, 1, 2]},
}


def block(**changes: Any) -> SearchConfig:
    faults: list[str] = []
    search = SearchConfig.read(BLOCK | changes, "search", faults)
    assert not faults, faults
    assert search is not None
    return search


def study_in(path: Path, search: SearchConfig) -> Study:
    storage = JournalStorage(JournalFileBackend(str(path)))
    made = optuna.create_study(storage=storage, study_name="s", directions=directions(search), load_if_exists=True)
    return Study(search, made)


def identify(settings: dict[str, Any]) -> str:
    return str(sorted((key, str(value)) for key, value in settings.items()))


def result(run: Run) -> Measured:
    """A trade-off along pr_c, with a little noise from the seed."""
    share = run.configuration.settings["pr_c"]
    return Measured((share + 0.001 * run.seed, 0.3 - share - 0.001 * run.seed))


def drain(campaign: Campaign, measure: Callable[[Run], Measured] = result) -> list[tuple[int, int]]:
    """One worker, to the end; returns (number, seed) of each run."""
    runs = []
    while (run := campaign.next()) is not None:
        runs.append((run.configuration.number, run.seed))
        campaign.done(run, measure(run))
    assert campaign.over
    return runs


def points(study: Study) -> list[Any]:
    return [(trial.number, trial.state.name, trial.params, trial.values) for trial in study.trials]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", pytest.param("gp", marks=pytest.mark.slow), "random", "qmc"])
def test_interrupted_after_every_run_it_goes_on_as_if_it_had_not_been(sampler: str, tmp_path: Path) -> None:
    """A new campaign and a new study from the file before each run; what was handed out and not done runs again."""
    search = block(sampler=sampler)
    drain(Campaign(search, whole := study_in(tmp_path / "whole", search), identify))
    done: set[tuple[int, int]] = set()
    while True:
        campaign = Campaign(search, pieces := study_in(tmp_path / "pieces", search), identify)
        while (run := campaign.next()) is not None and (run.configuration.number, run.seed) in done:
            campaign.done(run, result(run))  # the ledger holds it
        if run is None:
            break
        campaign.done(run, result(run))
        done.add((run.configuration.number, run.seed))
    assert points(pieces) == points(whole)
    assert len({str(params) for _, _, params, _ in points(whole)}) == 12
    assert {state for _, state, _, _ in points(whole)} == {"COMPLETE"}


def test_the_value_is_the_mean_over_the_seeds_in_the_objectives_own_direction(tmp_path: Path) -> None:
    """Costs -0.5, -0.6, -0.7 of a maximised metric are values of mean 0.6; gaps 0.1, 0.2, 0.6 have mean 0.3."""
    search = block(trials=1, constraints={"val_f1": ">= 0.4"}, sampler="random")
    given = {0: (-0.5, 0.1), 1: (-0.6, 0.2), 2: (-0.7, 0.6)}
    study = study_in(tmp_path / "s", search)
    drain(Campaign(search, study, identify), lambda run: Measured(given[run.seed], (-0.1 * run.seed,)))
    (trial,) = study.trials
    assert trial.values == pytest.approx([0.6, 0.3])
    assert trial.constraints == pytest.approx({"val_f1": -0.1})
    assert trial.user_attrs["replicates"] == {"0": [-0.5, 0.1, 0.0], "1": [-0.6, 0.2, -0.1], "2": [-0.7, 0.6, -0.2]}


def test_a_failed_seed_fails_the_configuration_and_the_others_are_not_run(tmp_path: Path) -> None:
    search = block(trials=2)
    study = study_in(tmp_path / "s", search)
    campaign = Campaign(search, study, identify)
    first, second = campaign.next(), campaign.next()
    assert first is not None and second is not None
    campaign.failed(first, "DivergedError", "the loss is nan.")
    campaign.done(second, result(second))
    assert {run[0] for run in drain(campaign)} == {1}
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[0].user_attrs["reason"] == "seed 0: the loss is nan."
    again = Campaign(search, study, identify)
    assert again.over
    retried = Campaign(search, study, identify, retry_failed=True)
    assert not retried.over
    drain(retried)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[2].params == study.trials[0].params
    assert Campaign(search, study, identify, retry_failed=True).over


def test_a_lost_worker_is_no_fault_of_the_configuration_and_is_tried_again_unasked(tmp_path: Path) -> None:
    search = block(trials=1)
    study = study_in(tmp_path / "s", search)
    campaign = Campaign(search, study, identify)
    run = campaign.next()
    assert run is not None
    campaign.failed(run, "WorkerLost", "died.")
    assert campaign.over
    drain(Campaign(search, study, identify))
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_a_used_up_space_ends_the_search_with_each_point_once(sampler: str, tmp_path: Path) -> None:
    """2 x 3 points."""
    search = block(
        sampler=sampler,
        trials=50,
        space={"layer": {"choice": [-1, -2]}, "train.epochs": {"int": [1, 3]}},
        replicates={},
    )
    study = study_in(tmp_path / "s", search)
    campaign = Campaign(search, study, identify)
    drain(campaign, lambda run: Measured((run.configuration.settings["train.epochs"], 1.0)))
    assert campaign.exhausted
    asked = sorted((trial.params["layer"], trial.params["train.epochs"]) for trial in study.trials)
    assert asked == [(-2, 1), (-2, 2), (-2, 3), (-1, 1), (-1, 2), (-1, 3)]


def test_start_points_come_first_and_points_that_resolve_to_one_trial_are_one(tmp_path: Path) -> None:
    """pr_c 0.10 and 0.11 prune the same channels, say."""
    start = [{"pr_c": share, "layer": -1, "method": "vanilla"} for share in (0.11, 0.1, 0.2)]
    search = block(trials=3, warm_start=start)
    study = study_in(tmp_path / "s", search)
    drain(Campaign(search, study, lambda settings: str((int(settings["pr_c"] * 20), settings["layer"]))))
    assert [trial.params["pr_c"] for trial in study.trials[:2]] == [0.11, 0.2]
    keys = [trial.user_attrs["key"] for trial in study.trials]
    assert len(set(keys)) == len(keys) == 3


def test_a_combination_that_makes_no_trial_is_told_as_failed(tmp_path: Path) -> None:
    def strict(settings: dict[str, Any]) -> str:
        if settings["layer"] == -2:
            raise ConfigError("pr_c: would leave none.")
        return identify(settings)

    search = block(trials=6, sampler="random")
    study = study_in(tmp_path / "s", search)
    drain(Campaign(search, study, strict))
    states = {(trial.params["layer"], trial.state.name) for trial in study.trials}
    assert states == {(-1, "COMPLETE"), (-2, "FAIL")}
    assert {trial.user_attrs.get("reason") for trial in study.trials} == {None, "pr_c: would leave none."}


def test_in_a_race_seeds_go_to_those_who_may_still_win(tmp_path: Path) -> None:
    """Costs along pr_c far apart, spread 0.001: after a first pair has told the spread, a loser gets no third seed."""
    search = block(
        trials=3,
        objectives={"val_eodd": "min"},
        space={"pr_c": {"float": [0.01, 0.9]}},
        warm_start=[{"pr_c": 0.1}, {"pr_c": 0.5}, {"pr_c": 0.1005}],
        replicates={"seeds": [0, 1, 2, 3], "start": 2, "race": True},
    )
    study = study_in(tmp_path / "s", search)
    runs = drain(
        Campaign(search, study, identify),
        lambda run: Measured((run.configuration.settings["pr_c"] + 0.001 * (run.seed % 2),)),
    )
    assert [seed for number, seed in runs if number == 0] == [0, 1, 2, 3]
    assert [seed for number, seed in runs if number == 1] == [0, 1]
    assert [seed for number, seed in runs if number == 2] == [0, 1, 2, 3]
    assert study.trials[1].values == pytest.approx([0.5005])


def test_a_plug_in_with_options_is_a_choice_by_its_label(tmp_path: Path) -> None:
    """And what counts under it alone is asked for only there; a name and a mapping of it are the same plug-in."""
    search = block(trials=12, sampler="random")
    study = study_in(tmp_path / "s", search)
    campaign = Campaign(search, study, identify)
    drain(campaign)
    for trial in study.trials:
        settings = campaign.configurations[trial.number].settings
        if trial.params["method"] == "mfd(weight=2)":
            assert settings["method"] == {"name": "mfd", "weight": 2}
            assert 0.25 <= settings["method[mfd].sigma"] <= 2
        else:
            assert trial.params["method"] == settings["method"] == "vanilla"
            assert "method[mfd].sigma" not in trial.params
        assert Campaign(search, study, identify).configurations[trial.number].settings == settings
    assert {trial.params["method"] for trial in study.trials} == {"vanilla", "mfd(weight=2)"}
