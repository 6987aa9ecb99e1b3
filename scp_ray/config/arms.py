"""The arms of a space as plain data: every point of a grid, listed ones, points of a search; and their faults."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from scp_ray.config.checks import Parts, faults_of
from scp_ray.config.dimensions import short
from scp_ray.config.parse import Faults
from scp_ray.config.search import SearchConfig
from scp_ray.config.trial import TrialConfig
from scp_ray.config.yaml import set_path
from scp_ray.errors import ConfigError
from scp_ray.loop.stopping import check_select

Raw = dict[str, Any]


def combinations(
    trial: Raw, grid: Mapping[str, list[Any]], arms: list[Raw], faults: Faults
) -> list[tuple[str, dict[str, Any], Raw]]:
    """Label, settings and raw trial of each arm: every listed one at every point of the grid."""
    made = []
    for listed, values in itertools.product(arms or [{}], itertools.product(*grid.values())):
        overrides = {path: value for path, value in listed.items() if path != "label"}
        axes = dict(zip(grid, values, strict=True))
        if both := [path for path in overrides if path in axes]:
            faults.append(f"grid.{both[0]}: an arm sets it too; leave it to one of the two.")
        raw = {"trial": copy.deepcopy(trial)}
        try:
            for path, value in (overrides | axes).items():
                set_path(raw, f"trial.{path}", copy.deepcopy(value))
        except ConfigError as error:
            faults.extend(error.faults)
        else:
            names = [listed.get("label") or arm_label(overrides)] if listed else []
            label = ", ".join([*names, *([arm_label(axes)] if axes or not names else [])])
            made.append((label, overrides | axes, raw["trial"]))
    return made


def points_of(trial: Raw, search: SearchConfig, faults: Faults) -> list[tuple[str, dict[str, Any], Raw]]:
    """Label, settings and raw trial of the points that are tried before anything starts."""
    probes = [*search.start_points(), *(settings for _, settings in search.probes())]
    return [point_of(trial, search, settings, faults) for settings in probes]


def point_of(
    trial: Raw, search: SearchConfig, settings: Mapping[str, Any], faults: Faults
) -> tuple[str, dict[str, Any], Raw]:
    """Label, settings and raw trial at one point; what does not count there is left out."""
    raw = {"trial": copy.deepcopy(trial)}
    chosen = {dimension.key: settings[dimension.key] for dimension in search.active(settings)}
    try:
        for dimension in search.active(settings):
            set_path(raw, f"trial.{dimension.path}", settings[dimension.key])
    except ConfigError as error:
        faults.extend(error.faults)
    return arm_label(chosen), chosen, raw["trial"]


def read_trial(raw: Raw, faults: Faults) -> TrialConfig | None:
    """``TrialConfig.read`` of an arm: without a seed, which the arm's trials differ in."""
    if "seed" in raw:
        faults.append("trial.seed: seeds stand at the top of the file (seeds: [0, 1, ...]), the same for every arm.")
        raw = {key: value for key, value in raw.items() if key != "seed"}
    config = TrialConfig.read(raw, "trial", faults)
    if config is not None:
        try:
            check_select(config.select, config.rounds)
        except ConfigError as error:
            faults += [f"trial.{fault}" for fault in error.faults]
    return config


def check_deeper(raw: Raw, config: TrialConfig | None, faults: Faults) -> None:
    """Faults that need files or the network, or several fields: each is looked for where its own parts can be read."""
    faults += faults_of(Parts.read(raw) if config is None else Parts.of(config), "trial")


def arm_label(settings: Mapping[str, Any]) -> str:
    """ "pr_c=0.02, layer=-1"; a plug-in with options shows its name and them."""
    return ", ".join(f"{axis}={short(value)}" for axis, value in settings.items()) or "all"
