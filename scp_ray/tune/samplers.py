"""Which point Optuna would try next, from the trials that a study holds; nothing is stored."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from scp_ray.config.dimensions import Dimension
from scp_ray.config.search import SearchConfig
from scp_ray.seeds import derive_seed

OWN_ATTEMPTS = 5  # repeats after which points are drawn at random: a sampler that is sure of itself repeats for ever
REPEATS = 100  # in a row, after which the space counts as exhausted
Settings = dict[str, Any]


def proposals(search: SearchConfig, trials: Sequence[FrozenTrial]) -> Iterator[tuple[Settings, dict[str, Any]]]:
    """Points to try next, the sampler's own first, each with what the sampler has noted of it; ends after 100.

    The sampler is a new one each time, seeded by the search's seed and the number of trials: what comes next depends
    on what the study holds and on nothing that a killed process could take along.
    """
    if search.sampler == "qmc":
        yield from _sequence(search, len(trials))
        return
    # a study of its own in memory: what is asked for twice, or resolves to a known trial, leaves no trace
    scratch = optuna.create_study(directions=directions(search), sampler=RandomSampler(seed=0))
    scratch.add_trials(trials)
    for attempt in range(REPEATS):
        seed = derive_seed(search.seed, "ask", len(trials), attempt) % 2**32
        scratch.sampler = _sampler(search.sampler if attempt < OWN_ATTEMPTS else "random", seed)
        trial = scratch.ask()
        settings = _suggested(search, trial)
        yield settings, dict(scratch.get_trials(deepcopy=False)[-1].system_attrs)
        scratch.tell(trial, state=TrialState.FAIL)


def _sequence(search: SearchConfig, known: int) -> Iterator[tuple[Settings, dict[str, Any]]]:
    """The quasi-random sequence from its beginning: the points that are known already are repeats."""
    seed = derive_seed(search.seed, "sequence") % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    scratch = optuna.create_study(sampler=sampler)
    everything = {dimension.key: distribution(dimension) for dimension in search.space}
    first = {dimension.key: in_optuna(dimension, dimension.middle()) for dimension in search.space}
    # the sequence's axes are those of the first trial
    scratch.add_trial(optuna.create_trial(params=first, distributions=everything, value=0.0))
    for _ in range(REPEATS + known):
        trial = scratch.ask(fixed_distributions=everything)
        drawn: Settings = {}
        for dimension in search.space:
            if dimension.active(drawn):
                drawn[dimension.key] = _value(dimension, trial.params[dimension.key])
        yield drawn, {}


def _suggested(search: SearchConfig, trial: optuna.Trial) -> Settings:
    settings: Settings = {}
    for dimension in search.space:
        if dimension.active(settings):
            settings[dimension.key] = _value(dimension, _drawn(trial, dimension))
    return settings


def _drawn(trial: optuna.Trial, dimension: Dimension) -> Any:
    if dimension.kind == "choice":
        return trial.suggest_categorical(dimension.key, dimension.labels())
    if dimension.kind == "int":
        return trial.suggest_int(dimension.key, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(dimension.key, dimension.low, dimension.high, log=dimension.log)


def _sampler(name: str, seed: int) -> BaseSampler:
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    if name == "nsga2":
        return NSGAIISampler(seed=seed)
    if name == "gp":
        return GPSampler(seed=seed, warn_independent_sampling=False)
    return RandomSampler(seed=seed)


def directions(search: SearchConfig) -> list[StudyDirection]:
    """Optuna's words for the objectives' directions."""
    return [StudyDirection[f"{objective.direction}imize".upper()] for objective in search.objectives]


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's description of a dimension."""
    if dimension.kind == "choice":
        return CategoricalDistribution(dimension.labels())
    if dimension.kind == "int":
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def in_optuna(dimension: Dimension, value: Any) -> Any:
    """A value as Optuna keeps it: a choice by its label."""
    if dimension.kind != "choice":
        return value
    at = next(at for at, each in enumerate(dimension.choices) if type(each) is type(value) and each == value)
    return dimension.labels()[at]


def from_optuna(search: SearchConfig, params: Mapping[str, Any]) -> Settings:
    """The point that Optuna's parameters stand for."""
    return {
        dimension.key: _choice(dimension, params[dimension.key])
        for dimension in search.space
        if dimension.key in params
    }


def running(search: SearchConfig, settings: Settings, user: dict[str, Any], system: dict[str, Any]) -> FrozenTrial:
    """A point as a trial that is going on."""
    active = search.active(settings)
    return FrozenTrial(
        number=-1,  # given by the storage
        trial_id=-1,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.datetime.now(),
        datetime_complete=None,
        params={each.key: in_optuna(each, settings[each.key]) for each in active},
        distributions={each.key: distribution(each) for each in active},
        user_attrs=user,
        system_attrs=system,
        intermediate_values={},
    )


def _value(dimension: Dimension, drawn: Any) -> Any:
    return _choice(dimension, drawn) if dimension.kind == "choice" else dimension.rounded(drawn)


def _choice(dimension: Dimension, label: Any) -> Any:
    if dimension.kind != "choice":
        return label
    labels = dimension.labels()
    at = next(at for at, each in enumerate(labels) if type(each) is type(label) and each == label)
    return dimension.choices[at]
