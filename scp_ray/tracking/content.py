"""What a tracker is told of a trial or base model, from the ledger alone: so that telling it twice says the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scp_ray.ledger.records import CIRCUMSTANCES, Records, Row, rows_done, stopped_early

# what says which trial a row is of; these become parameters or tags, not metrics
# and these tags, besides: what whoever reads a sweep back from MLflow alone cannot know otherwise
IDENTITY = ("base_id", "vanilla_id", "dataset", "backbone", "method", "criterion", "k", "layer", "layer_name")
STOPPED = "scp_ray.stopped_early"  # why a search stopped it
_NOT_METRICS = {"round", "seed", "k", "pr_c", "layer", "from_base", "stopped", "threads", "time"}


@dataclass(frozen=True)
class Content:
    """Of one run: ``params`` never change, ``tags`` may when the same trial goes on."""

    name: str
    kind: str  # trial or base
    params: dict[str, str]
    tags: dict[str, str]
    done: bool


def recorded(ledger: Records, job_id: str) -> list[Row]:
    """The rows that the ledger holds of a trial or base model; empty where there is none."""
    return [ledger.base_row(job_id)] if ledger.base_done(job_id) else ledger.rounds(job_id)


class Contents:
    """What the runs of one sweep say. ``sweep`` is its sweep.json."""

    def __init__(self, sweep: Mapping[str, Any]) -> None:
        self._trials = _trials(sweep)

    def of(self, job_id: str, rows: Sequence[Row], failure: Mapping[str, Any] | None) -> Content:
        """One job's; ``rows`` are all that the ledger holds of it. Without any, a failure has to be there."""
        label = failure["label"] if failure else f"trial {job_id}"
        is_base = not rows[0]["trial_id"] if rows else job_id not in self._trials
        if is_base and rows:
            config = {name: rows[0][name] for name in ("dataset", "backbone", "method", "seed")}
            label = f"base {config['method']}, seed={config['seed']}"
            return Content(label, "base", {name: _cut(value) for name, value in config.items()}, {}, True)
        known = self._trials.get(job_id, {"label": label, "config": {}, "rounds": 0})
        flat = dict(_flat(known["config"]))
        tags = {f"scp_ray.{name}": _cut(flat.pop(name)) for name in list(flat) if _may_change(name)}
        tags |= {f"scp_ray.{name}": _cut(value) for name, value in known.get("arm", {}).items()}
        tags |= {f"scp_ray.{name}": _cut(rows[0][name]) for name in IDENTITY if rows and rows[0].get(name) is not None}
        if rows and (reason := stopped_early(rows[-1])):
            tags[STOPPED] = _cut(reason)
        params = {name: _cut(value) for name, value in flat.items()}
        done = rows_done(rows, known["rounds"], searching=True)
        return Content(known["label"], "base" if is_base else "trial", params, tags, done)


def job_ids(sweep: Mapping[str, Any]) -> list[str]:
    """Base models and trials that sweep.json names, base models first."""
    entries = [entry for arm in sweep["arms"] for entry in arm["trials"]]
    bases = [entry[key] for key in ("vanilla_id", "base_id") for entry in entries]
    return list(dict.fromkeys([*bases, *(entry["trial_id"] for entry in entries)]))


def numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every finite number of a row but its identity; circumstances under "circumstances/"."""
    for name, value in row.items():
        if name in _NOT_METRICS or isinstance(value, bool | str) or not isinstance(value, int | float):
            continue
        if math.isfinite(value):
            yield (f"circumstances/{name}" if name in CIRCUMSTANCES else name), float(value)


def _trials(sweep: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Label, configuration and rounds of each trial; one that arms share has the first label and the most rounds."""
    trials: dict[str, dict[str, Any]] = {}
    for arm in sweep["arms"]:
        for trial in arm["trials"]:
            config = arm["config"] | {"seed": trial["seed"]}
            label, told = arm["label"], {"arm": arm["label"], "settings": json.dumps(arm.get("settings", {}))}
            mine = {"label": f"{label}, seed={trial['seed']}", "config": config, "rounds": 0, "arm": told}
            known = trials.setdefault(trial["trial_id"], mine)
            known["rounds"] = max(known["rounds"], config["rounds"])
    return trials


def _may_change(name: str) -> bool:
    """What may differ when the same trial goes on: MLflow's parameters are for good, so these become tags."""
    return name in ("rounds", "select", "dataset.root") or name.startswith("stop.")


def _cut(value: Any) -> str:
    return str(value)[:5000]  # MLflow takes 6,000 characters of a parameter and 8,000 of a tag


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
