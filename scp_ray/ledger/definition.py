"""sweep.json: what was asked for, by which versions, and which trials answer it."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scp_ray.data.base import DataSet
from scp_ray.errors import DataError, LedgerError
from scp_ray.ledger.changes import config_of, kept_trials
from scp_ray.ledger.files import read_json
from scp_ray.places import AnyPath
from scp_ray.registry import spec_of

if TYPE_CHECKING:
    from scp_ray.config import Arm, SweepConfig

FORMAT = 1
_NUMBERS = ("torch", "torchvision", "numpy")  # what numbers are made by; the others only carry them
_PACKAGES = ("scp_ray", "torch", "torchvision", "ray", "numpy", "pandas", "pyarrow", "optuna", "mlflow")


def define(config: SweepConfig, arms: Sequence[Arm], previous: dict[str, Any] | None) -> dict[str, Any]:
    """The sweep's record; arms of an earlier definition stay, an arm of the same label is brought up to date."""
    entries = {entry["label"]: entry for entry in (previous or {}).get("arms", [])}
    identity = functools.cache(lambda data_set: data_set.identity())  # reads the tables: once, not once an arm
    for arm in arms:
        before = entries.get(arm.label)
        entries[arm.label] = _arm_entry(arm, identity(arm.trials[0].config.dataset), before)
        if before and "search" in before:
            entries[arm.label]["search"] = before["search"]
    asked = {arm.label: {trial.trial_id for trial in arm.trials} for arm in arms}
    answered = {trial_id for trials in asked.values() for trial_id in trials}
    for label in [label for label in entries if label not in asked]:
        # an axis was added: the earlier arm's trials are now those of arms with longer labels
        if {trial["trial_id"] for trial in entries[label]["trials"]} <= answered:
            del entries[label]
    now = time.time()
    return {
        "format": FORMAT,
        "name": config.name,
        "created": (previous or {}).get("created", now),
        "updated": now,
        "definition": asdict(config),
        "versions": _versions(),
        "commit": _commit(),
        "seeds": config.seeds,
        "data": _data_records(arms, previous),
        "arms": list(entries.values()),
        "test_reveals": (previous or {}).get("test_reveals", 0),
    }


def with_arm(definition: dict[str, Any], arm: Arm, standing: Mapping[str, Any]) -> dict[str, Any]:
    """sweep.json with a configuration of a search added, or brought up to date.

    ``standing`` is what the search says of it: ``number`` and ``state`` (Optuna's), and ``reason`` where it failed.
    """
    data = _arm_data(definition, arm)
    arms = {each["label"]: each for each in definition["arms"]}
    arms[arm.label] = _arm_entry(arm, data, arms.get(arm.label)) | {"search": dict(standing)}
    return definition | {"updated": time.time(), "arms": list(arms.values())}


def _arm_data(definition: Mapping[str, Any], arm: Arm) -> dict[str, Any]:
    """The identity of an arm's data set, from an arm of the same one where there is any: making it reads the tables."""
    dataset = json.loads(json.dumps(arm.trials[0].config.as_dict()["dataset"]))
    known = (each["data"] for each in definition["arms"] if each["config"]["dataset"] == dataset)
    return next(known, None) or arm.trials[0].config.dataset.identity()


def read_definition(path: AnyPath) -> dict[str, Any]:
    """sweep.json. Raises LedgerError where it is missing, damaged or of another format."""
    remedy = (
        "Bring back a copy of it; or delete it and run the sweep's commands again, which writes it anew from what "
        "they ask for (how often test numbers were shown is then forgotten)."
    )
    content = read_json(path, remedy)
    if content.get("format", FORMAT) != FORMAT or not isinstance(content.get("arms"), list):
        raise LedgerError(
            f"{path} holds no arms, or is of another format ({content.get('format')}) than this version of scp_ray "
            f"reads ({FORMAT}): then use the version that wrote it. If it is damaged: {remedy}"
        )
    return content


def version_notes(previous: dict[str, Any] | None) -> list[str]:
    """What has to be said where a sweep goes on with other versions of what its numbers are made by."""
    before, now = (previous or {}).get("versions", {}), _versions()
    shared = [name for name in _NUMBERS if name in before and name in now]
    other = [f"{name} {before[name]} (now {now[name]})" for name in shared if before[name] != now[name]]
    if not other:
        return []
    return [
        f"this sweep was begun with {', '.join(other)}. It goes on, but trials of the two may differ in their last "
        "digits: bit for bit the same takes the same versions."
    ]


def _data_records(arms: Sequence[Arm], previous: dict[str, Any] | None) -> dict[str, Any]:
    """Each data set's health and the digests of its images and units, by ``data_key``.

    Raises DataError where the numbers of two arms, or of now and an earlier run, would not compare: the same request
    has met another table, other images, or other ones that can be used; or the same table, another number of classes
    or other units, from which all evidence follows.
    """
    records = dict((previous or {}).get("data", {}))
    for data_set in dict.fromkeys(arm.trials[0].config.dataset for arm in arms):
        key, health = data_key(data_set.identity()), data_set.health()
        record = {"asked": _asked(data_set), "sources": data_set.sources(), "units": data_set.units()}
        for other, before in records.items():
            other_images = other == key and before["sources"] != record["sources"]
            # rows that are not used may have classes of their own: nothing else tells of them
            other_classes = other == key and len(before["health"]["classes"]["train"]) != len(health.classes["train"])
            other_rows = other_classes or (other != key and before["asked"] == record["asked"])
            if other == key and before.get("units", record["units"]) != record["units"]:
                raise DataError(
                    f"the units of {data_set.plugin_name} (lesions, patients, duplicates) are not those that this "
                    "sweep already has evidence by. Bring back the earlier table or option, or choose another name or "
                    "--out: evidence by other units is a sweep of its own."
                )
            if other_images or other_rows:
                what = "images" if other_images else "tables or images"
                raise DataError(
                    f"the {what} of {data_set.plugin_name} are not those that this sweep already knows for the same "
                    "options: some have changed, or can no longer be used. Put the earlier ones back, or choose "
                    "another name or --out: arms on other data are a sweep of their own."
                )
        records[key] = record | {"notes": health.notes(), "health": health.as_dict()}
    return records


def _asked(data_set: DataSet) -> str:
    """What is asked for, whatever the tables and images turn out to be: every option but the place."""
    options = {key: value for key, value in spec_of(data_set).items() if key not in ("root", "strict")}
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def data_key(identity: Mapping[str, Any]) -> str:
    """How sweep.json names a data set: the beginning of its table's digest."""
    return str(identity["table"])[:16]


def _arm_entry(arm: Arm, data: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """An arm with its trials; seeds that an earlier definition of it had stay."""
    kept = kept_trials(before, arm)
    trials = {trial["seed"]: trial for trial in kept}
    for trial in arm.trials:
        trials[trial.config.seed] = {
            "seed": trial.config.seed,
            "trial_id": trial.trial_id,
            "base_id": trial.base_id,
            "vanilla_id": trial.vanilla_id,
        }
        if needs := [base for base in trial.bases() if base not in (trial.base_id, trial.vanilla_id)]:
            trials[trial.config.seed]["needs"] = needs
    return {
        "label": arm.label,
        "settings": arm.settings,
        "config": config_of(arm),
        "data": data,
        "trials": [trials[seed] for seed in (sorted(trials) if kept else trials)],
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit the package runs from, "-dirty" where files differ from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
