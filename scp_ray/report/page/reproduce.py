"""What somebody else needs to get the same numbers: the space, versions, commit, seeds, data."""

from __future__ import annotations

import datetime
import shlex
from typing import Any

import yaml

from scp_ray.ledger import Sweep
from scp_ray.report.page.markup import block, command_line, definitions, paragraph, tag
from scp_ray.report.page.words import counted, seeds_of

_EMPTY: tuple[Any, ...] = (None, {}, [])


def reproduce_html(sweep: Sweep) -> str:
    """The definition as YAML, the commands, and what the numbers were made by."""
    told = sweep.definition
    root = str(sweep.ledger.root)
    text, name = space_yaml(told), str(told.get("name", "sweep"))
    facts = {
        "Sweep": root,
        "Begun": _when(told.get("created")),
        "Last asked for": _when(told.get("updated")),
        "Commit of scp_ray": told.get("commit") or "not run from a checkout",
        "Seeds": seeds_of(sweep),
        "Data (digest of the table)": ", ".join(told.get("data", {})) or "not recorded",
        "Devices": _devices(sweep),
        "Test numbers shown": f"{told.get('test_reveals', 0)} times",
    }
    versions = told.get("versions", {})
    if versions:
        facts["Versions"] = ", ".join(f"{package} {version}" for package, version in versions.items())
    parts = [definitions(facts)]
    if text and told["definition"].get("search"):
        parts.append(paragraph("What was asked for, with every setting of the search as it was understood."))
        parts.append(block(text, "the definition"))
    elif text:
        parts.append(paragraph(f"The space, as {name}.yaml; paths of data and weights are this sweep's own."))
        parts.append(block(text, f"the space {name}.yaml"))
        parts.append(command_line(shlex.join(["scp-ray", "sweep", f"{name}.yaml"])))
    parts.append(
        paragraph(
            "Bit for bit the same takes the same versions, device type and torch threads. The tables behind this page "
            "are Parquet files in the sweep's folder; this page is made again by:"
        )
    )
    parts.append(command_line(shlex.join(["scp-ray", "report", root])))
    return tag("div", "".join(parts))


def space_yaml(definition: dict[str, Any]) -> str:
    """What was asked for, without what was left at nothing; empty where the ledger does not say."""
    asked = {key: value for key, value in definition.get("definition", {}).items() if value not in _EMPTY}
    if "resources" in asked:
        asked["resources"] = {key: value for key, value in asked["resources"].items() if value not in _EMPTY}
    return yaml.safe_dump(asked, sort_keys=False, allow_unicode=True, width=100) if asked else ""


def _devices(sweep: Sweep) -> str:
    rows = sweep.rounds
    if not {"device", "threads"} <= set(rows.columns):
        return "not recorded"
    pairs = sorted(
        {(str(device), int(threads)) for device, threads in zip(rows["device"], rows["threads"], strict=True)}
    )
    return "; ".join(f"{device}, {counted(threads, 'torch thread')}" for device, threads in pairs)


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"
