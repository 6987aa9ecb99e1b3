"""An arm by what a person writes: its label, a filter such as pr_c=0.02,layer=-1, or the unpruned base models."""

from __future__ import annotations

from typing import Any

from scp_ray.config.arms import arm_label
from scp_ray.errors import ConfigError, UnknownNameError
from scp_ray.ledger import Sweep

BASE = "base"  # every trial's own round 0, as an arm
_ABSENT = object()


def find_arm(sweep: Sweep, asked: str) -> str:
    """The label of the one arm that ``asked`` names, or BASE for ``base`` and ``round=0``.

    A filter's terms are separated by commas and all have to hold: ``path=value`` of a path below trial, or a part of
    the label. Raises ConfigError, listing arms, where none or several fit; UnknownNameError for an unknown path.
    """
    arms = sweep.definition["arms"]
    labels = [str(arm["label"]) for arm in arms]
    if asked in labels:
        return asked
    if asked.replace(" ", "") in (BASE, "round=0"):
        return BASE
    terms = [term for term in _terms(asked) if term]
    if any(term.partition("=")[0].strip() == "round" for term in terms):
        raise ConfigError(
            f"arm {asked!r}: an arm is read at its selected round (trial.select); of rounds only round=0 can be named, "
            "alone, for the unpruned base models."
        )
    found = [arm["label"] for arm in arms if terms and all(_holds(arm, term) for term in terms)]
    if len(found) == 1:
        return str(found[0])
    if not found:
        for term in terms:
            _check_path(arms, term)
        raise ConfigError(f"no arm fits {asked!r}. Arms: {_listed(labels)}; or {BASE}, the models before pruning.")
    raise ConfigError(f"{len(found)} arms fit {asked!r}: {_listed(found)}. Name one more of their settings.")


def _terms(text: str) -> list[str]:
    """Split at commas outside of brackets: a plug-in's options have commas of their own."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _holds(arm: dict[str, Any], term: str) -> bool:
    path, sign, wanted = (part.strip() for part in term.partition("="))
    if not sign:
        return term in _terms(arm["label"])
    value = value_at(arm, path, _ABSENT)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(wanted) == value
    plain = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else None
    named = value.get("name") if isinstance(value, dict) else None
    return wanted in (plain, named, arm_label({path: value}).partition("=")[2])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def value_at(arm: dict[str, Any], path: str, absent: Any = None) -> Any:
    """What the arm has there: of its axes, else of its whole configuration; ``absent`` where it has nothing."""
    if path in arm["settings"]:
        return arm["settings"][path]
    value: Any = arm["config"]
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return absent
        value = value[name]
    return value


def _check_path(arms: list[dict[str, Any]], term: str) -> None:
    path, sign, _ = (part.strip() for part in term.partition("="))
    if sign and all(value_at(arm, path, _ABSENT) is _ABSENT for arm in arms):
        axes = dict.fromkeys(axis for arm in arms for axis in arm["settings"])
        raise UnknownNameError("path", path, axes or dict.fromkeys(key for arm in arms for key in arm["config"]))


def _listed(labels: list[str]) -> str:
    shown = [repr(label) for label in labels[:20]]
    return ", ".join(shown) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
