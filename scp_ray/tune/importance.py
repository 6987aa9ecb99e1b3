"""Which parameters decide how far a configuration gets: Optuna's default, PED-ANOVA, on what the ledger holds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

FEWEST = 50  # configurations, so that the best tenth are the five that Optuna asks for


def parameter_importance(
    settings: Sequence[Mapping[str, Any]], costs: Sequence[Sequence[float]], space: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """The share of each parameter, largest first, summing to 1; empty with fewer than ``FEWEST`` configurations.

    PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023) compares the parameters of the best tenth with those of all;
    with several objectives the best are those of the lowest non-domination rank. Shares sum to 1 also where nothing
    decides: of few best ones chance alone makes one parameter's large. Constraints are not looked at. The study is
    made anew from the ledger, so that a lost storage, or a grid that never had one, changes nothing.

    Args:
        settings: of each configuration: path to value; a plug-in with options counts as its name and those options.
        costs: (N, M) of each configuration, lower is better, all finite.
        space: what was searched, each with ``key``, ``kind`` (float, int, choice), ``low``, ``high`` and ``log``; a
            path that is not in it is taken as a choice among the values seen.
    """
    points = [dict(_flat(each)) for each in settings]
    names = list(dict.fromkeys(name for point in points for name in point))
    searched = {entry["key"]: entry for entry in space}
    ranges = {name: _distribution(searched.get(name, {}), [p[name] for p in points if name in p]) for name in names}
    varied = {name: found for name, found in ranges.items() if not found.single()}
    if len(points) < FEWEST or not varied:
        return {}
    with _quiet():
        study = optuna.create_study(directions=["minimize"] * len(costs[0]))
        for point, values in zip(points, costs, strict=True):
            params = {name: _value(point[name], varied[name]) for name in varied if name in point}
            used = {name: varied[name] for name in params}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=used, values=list(values)))
        found = optuna.importance.get_param_importances(study)
    return {name: float(share) for name, share in found.items()}


class _quiet(warnings.catch_warnings):
    """Optuna's notes on small studies and on its own experimental parts go into no report."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        self._level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)

    def __exit__(self, *stop: Any) -> None:
        optuna.logging.set_verbosity(self._level)
        super().__exit__(*stop)


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """``method: {name: mfd, sigma: 0.5}`` as ``method: mfd`` and ``method[mfd].sigma: 0.5``."""
    for path, value in settings.items():
        if isinstance(value, Mapping) and "name" in value:
            yield path, value["name"]
            options = {key: inner for key, inner in value.items() if key != "name"}
            yield from ((f"{path}[{value['name']}].{key}", inner) for key, inner in options.items())
        else:
            yield path, value


def _distribution(entry: Mapping[str, Any], seen: Sequence[Any]) -> BaseDistribution:
    if entry.get("kind") in ("float", "int"):
        low, high = min(entry["low"], *seen), max(entry["high"], *seen)  # the space may have been another one before
        made: BaseDistribution = (FloatDistribution if entry["kind"] == "float" else IntDistribution)(
            low, high, log=entry["log"]
        )
        return made
    return CategoricalDistribution(list(dict.fromkeys(_plain(value) for value in seen)))


def _value(value: Any, distribution: BaseDistribution) -> Any:
    return _plain(value) if isinstance(distribution, CategoricalDistribution) else value


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else repr(value)
