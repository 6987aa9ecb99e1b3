"""Which rows a table in the paper's form has: a sweep's arms, and the models that FATE is relative to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scp_ray.ledger import Sweep

SCP = {"pr_c": 0.02, "layer": -1}  # the paper's own pruning, which it prints numbers of


@dataclass(frozen=True)
class Model:
    """A round of a trial; round 0 is its base's, whichever trials begin there, and names none."""

    base_id: str
    trial_id: str = ""
    round: int = 0


@dataclass(frozen=True)
class Entry:
    """A row of the table: an arm, or base models that stand for themselves."""

    label: str
    arm: str  # empty where the sweep has no such arm
    method: str  # the base method: "me-fairprune"
    pruned: bool
    published: str  # its name among the published methods, "scp-fairprune"; empty where the paper has none
    backbone: str
    models: dict[int, Model]  # by seed, of what is done
    baselines: dict[int, Model]  # by the same seeds: what FATE and differences are relative to
    trials: dict[int, str] = field(default_factory=dict)  # by seed, of an arm
    config: Mapping[str, Any] = field(default_factory=dict)  # of an arm

    @property
    def is_baseline(self) -> bool:
        """Whether it is compared with itself."""
        return self.models == self.baselines


def against_base(sweep: Sweep) -> bool:
    """Whether FATE is relative to each trial's own round 0, as in the paper's Supplementary Table 3.

    So it is where every arm prunes: then what pruning changes is asked. Where methods stand for themselves, as in its
    other tables, all are relative to the vanilla model.
    """
    return all(arm["config"]["rounds"] > 0 for arm in sweep.definition["arms"])


def entries_of(sweep: Sweep) -> list[Entry]:
    """The table's rows: each baseline stands before the arms that are relative to it."""
    arms, own = sweep.definition["arms"], against_base(sweep)
    recorded = set(sweep.bases["base_id"]) if len(sweep.bases) else set()
    names = _base_names(arms, own)
    entries: list[Entry] = []
    placed: set[tuple[tuple[int, str], ...]] = set()
    done = _done(sweep)
    standing = {_ids(arm, "base_id") for arm in arms if not arm["config"]["rounds"]}  # a row of their own
    for arm in arms:
        key = _ids(arm, "base_id" if own else "vanilla_id")
        baselines = {seed: Model(base_id) for seed, base_id in key}
        if key not in placed and key not in standing:
            models = {seed: model for seed, model in baselines.items() if model.base_id in recorded}
            method = _method(arm) if own else "vanilla"
            backbone = str(arm["config"].get("backbone", {}).get("name", ""))
            published = _published(method, method, backbone)
            entries.append(Entry(names[key], "", method, False, published, backbone, models, models))
        placed.add(key)
        entries.append(_entry(arm, done.get(arm["label"], {}), baselines))
    return entries


def _entry(arm: Mapping[str, Any], models: dict[int, Model], baselines: Mapping[int, Model]) -> Entry:
    config, method = arm["config"], _method(arm)
    pruned = config["rounds"] > 0
    backbone = str(config.get("backbone", {}).get("name", ""))
    scp = _name(config.get("criterion", "")).startswith("snnl") and all(
        config.get(key) == value for key, value in SCP.items()
    )
    name = method if not pruned else f"scp-{method}" if scp else ""
    relative = {seed: baselines[seed] for seed in models}
    label = str(arm["label"])
    trials = {int(trial["seed"]): str(trial["trial_id"]) for trial in arm["trials"]}
    published = _published(name, method, backbone)
    return Entry(label, label, method, pruned, published, backbone, models, relative, trials, config)


def _done(sweep: Sweep) -> dict[str, dict[int, Model]]:
    """By arm and seed the selected round of what is done: what is selected of the others may still change."""
    trials = sweep.trials
    found: dict[str, dict[int, Model]] = {}
    for row in trials[trials["status"] == "done"].to_dict("records") if len(trials) else ():
        index, base_id = int(row["selected_round"]), str(row["base_id"])
        model = Model(base_id, str(row["trial_id"]), index) if index else Model(base_id)
        found.setdefault(str(row["arm"]), {})[int(row["seed"])] = model
    return found


def _ids(arm: Mapping[str, Any], name: str) -> tuple[tuple[int, str], ...]:
    return tuple(sorted((int(trial["seed"]), str(trial[name])) for trial in arm["trials"]))


def _base_names(arms: Iterable[Mapping[str, Any]], own: bool) -> dict[tuple[tuple[int, str], ...], str]:
    """What rows of base models are called: by their method, with the backbone or an arm where that is not enough."""
    first: dict[tuple[tuple[int, str], ...], Mapping[str, Any]] = {}
    for arm in arms:
        first.setdefault(_ids(arm, "base_id" if own else "vanilla_id"), arm)
    taken = {str(arm["label"]) for arm in arms}
    named: dict[tuple[tuple[int, str], ...], str] = {}
    methods = [_method(arm) if own else "vanilla" for arm in first.values()]
    for (key, arm), method in zip(first.items(), methods, strict=True):
        backbone = str(arm["config"].get("backbone", {}).get("name", ""))
        tries = [method] if methods.count(method) == 1 else []
        tries += [f"{method} ({backbone})", f"{method}, not pruned", f"base of {arm['label']}"]
        named[key] = next((name for name in tries if name not in taken), tries[-1])
        taken.add(named[key])
    return named


def _method(arm: Mapping[str, Any]) -> str:
    return _name(arm["config"]["method"])


def _name(value: Any) -> str:
    """Of a plug-in as the record keeps it; two methods are joined."""
    if isinstance(value, list):
        return "-".join(_name(part) for part in value)
    return str(value["name"] if isinstance(value, Mapping) else value)


def _published(name: str, method: str, backbone: str) -> str:
    """FairAdaBN alone needs batch norm; of other methods with it the paper prints nothing."""
    return "" if backbone.endswith("-bn") and method != "fair-adabn" else name
