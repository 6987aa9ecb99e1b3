"""An arm that is asked for again with other settings: what one label stands for stays one configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scp_ray.errors import ConfigError

if TYPE_CHECKING:
    from scp_ray.config import Arm
    from scp_ray.ledger.records import Row


def config_of(arm: Arm) -> dict[str, Any]:
    """An arm's configuration as sweep.json has it: as it is read back, without the seed."""
    config: dict[str, Any] = json.loads(json.dumps(arm.trials[0].config.as_dict()))
    del config["seed"]
    return config


def kept_trials(before: Mapping[str, Any] | None, arm: Arm) -> list[dict[str, Any]]:
    """The trials of an earlier arm of this label that are trials of this one, too: by their ids, seed by seed."""
    if before is None:
        return []
    ids = {trial.config.seed: trial.trial_id for trial in arm.trials}
    return [
        trial
        for trial in before["trials"]
        if trial["trial_id"] == (ids.get(trial["seed"]) or arm.at_seed(trial["seed"]).trial_id)
    ]


def refuse_other_settings(
    arms: Sequence[Arm],
    previous: Mapping[str, Any] | None,
    rounds: Callable[[str], list[Row]],
    *,
    searching: bool = False,
) -> None:
    """Raise ConfigError where the label of an arm stands for recorded rounds of another configuration.

    They would be forgotten, or stand beside seeds of other settings. What makes no other trial (more rounds, another
    selection) goes on, and so does an arm that has nothing to lose yet.

    Args:
        arms: what is asked for.
        previous: sweep.json, if there is one.
        rounds: the committed rows of a trial, by its id.
        searching: whether the arms are a search's; of its own earlier ones the study speaks.
    """
    entries = {entry["label"]: entry for entry in (previous or {}).get("arms", [])}
    refused: dict[tuple[str, str], list[str]] = {}  # what differs, and an axis that tells -> labels
    for arm in arms:
        before = entries.get(arm.label)
        if before is None or (searching and "search" in before):
            continue
        kept, differing = kept_trials(before, arm), _differing(before["config"], config_of(arm))
        lost = [trial["trial_id"] for trial in before["trials"] if trial not in kept]
        first = min(1, before["config"]["rounds"])  # round 0 is the base model's
        if differing and any(row["round"] >= first for trial_id in lost for row in rounds(trial_id)):
            told = "; ".join(f"trial.{path} was {_text(old)}, now {_text(new)}" for path, old, new in differing)
            path, *values = differing[0]
            refused.setdefault((told, f"{{{path}: {json.dumps(values)}}}"), []).append(arm.label)
    faults = []
    for (told, axis), labels in refused.items():
        more = f" (and {len(labels) - 1} more)" if len(labels) > 1 else ""
        faults.append(
            f"arm {labels[0]}{more}: this sweep has rounds of that label with other settings: {told}. One label stands "
            "for one configuration, so nothing was started. Give the new one a sweep of its own (--set name=...); or "
            f"make what differs an axis, which labels tell (grid: {axis}); or bring back the earlier "
            "settings."
        )
    if faults:
        raise ConfigError(faults)


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Path, earlier and present value of what may make another trial of an arm."""
    left_out = ["rounds", "select", "dataset.root", "dataset.strict"]
    if not (before["stop"]["enforce"] or now["stop"]["enforce"]):
        left_out.append("stop")
    return [
        each for each in _pairs("", before, now) if not any(f"{each[0]}.".startswith(f"{out}.") for out in left_out)
    ]


def _pairs(path: str, before: Any, now: Any) -> list[tuple[str, Any, Any]]:
    if before == now:
        return []
    if not (isinstance(before, dict) and isinstance(now, dict) and before.get("name") == now.get("name")):
        return [(path, before, now)]
    found = []
    for key in dict.fromkeys((*before, *now)):
        found += _pairs(f"{path}.{key}" if path else key, before.get(key), now.get(key))
    return found


def _text(value: Any) -> str:
    """A plug-in by its name."""
    return str(value["name"]) if isinstance(value, dict) and "name" in value else json.dumps(value)
