"""How an axis is named: by the path of a field below ``trial``, without that word."""

from __future__ import annotations

import dataclasses
import difflib
import re

from scp_ray.config.parse import Faults, unknown_key
from scp_ray.config.trial import TrialConfig

_FIELDS = {field.name: field for field in dataclasses.fields(TrialConfig)}


def axis_name(written: str, path: str, faults: Faults) -> str:
    """The axis that is meant; what is wrong with its spelling goes to ``faults``, in which ``path`` is its place.

    With ``trial.``, as --set and profiles have it, or close to a field, it is read as that field, so that nothing else
    is told of it.
    """
    name = written.removeprefix("trial.")
    head = re.split(r"[.\[]", name, maxsplit=1)[0]
    if name != written:
        faults.append(f"{path}.{written}: axes are written without 'trial.', since all are below it: write {name}.")
    if head in _FIELDS:
        return name
    faults.append(unknown_key(f"{path}.{name}", head, _FIELDS))
    near = difflib.get_close_matches(head, _FIELDS, n=1)
    return near[0] + name.removeprefix(head) if near else name
