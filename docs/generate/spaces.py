"""The page of search spaces: every field that one may have, and the spaces that come along."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from typing import Any, get_type_hints

from scp_ray.backbones.base import backbones
from scp_ray.config.parse import describe
from scp_ray.config.search import Halving, Replicates, SearchConfig
from scp_ray.config.space import NodeType, Resources, SweepConfig
from scp_ray.config.trial import TrialConfig
from scp_ray.config.yaml import shipped_spaces
from scp_ray.criteria.base import criteria
from scp_ray.data.base import datasets
from scp_ray.loop.picking import Pick
from scp_ray.loop.stopping import StopRule
from scp_ray.methods.base import Method, methods
from scp_ray.parts import TrainPlan
from scp_ray.registry import Registry

OPENING = """# Search spaces

A search space is a YAML file: one trial, the axes it is varied along, the seeds that replicate every arm. This page is
made from the classes that read it: these are all the fields there are, what is allowed, and what they are unless given.

- Any path below `trial` can be an axis of `grid`: `grid: {fine_tune.lr: [0.01, 0.001], layer: [-1, -2]}`. The product
  of all axes is run. What is no product is listed under `arms`, each a mapping of such paths, perhaps with a `label`.
- A plug-in is a name, or a mapping of its name and options: `criterion: {name: snnl, temperature: 1.0}`.
- `profiles` holds named blocks of overrides, chosen by `--profile`. Their keys, and those of `--set`, are paths from
  the top of the file: `trial.dataset.root`.
- A wrong file is refused before anything starts, with all its faults at once.
"""
BLOCKS = {
    "": (SweepConfig, "The top of the file."),
    "trial": (TrialConfig, "What one trial does."),
    "train": (TrainPlan, "`trial.train` is the base model's training, `trial.fine_tune` what follows each pruning."),
    "stop": (StopRule, ""),
    "pick": (Pick, "[Which channels go](methods.md#which-channels-go) explains it. A name alone is the rule."),
    "resources": (
        Resources,
        "[Clusters](clusters.md#what-a-trial-asks-for) explains it.",
    ),
    "resources.node_types": (NodeType, ""),
    "search": (SearchConfig, "[Searching a space](search.md) explains it."),
    "search.replicates": (Replicates, ""),
    "search.asha": (Halving, ""),
}
READ_OTHERWISE = {  # fields whose class says less than their reader
    "trial": "a mapping: see below",
    "grid": "a mapping of paths below trial to lists",
    "arms": "a list of mappings of paths below trial",
    "search": "a mapping: see below",
    "resources": "a mapping: see below",
    "dataset": "a data set",
    "backbone": "a backbone",
    "method": "a method, or a list of two",
    "criterion": "a criterion",
    "objectives": "a mapping of val_ numbers to max or min",
    "space": "a mapping of paths below trial to ranges and choices",
    "constraints": "a mapping of val_ numbers to a bound",
    "replicates": "a mapping: see below",
    "asha": "a mapping: see below",
    "node_types": "a list of mappings: see below",
    **dict.fromkeys(("pick", "train", "fine_tune", "stop"), "a mapping: see below"),
}
ROOMS: dict[str, Registry[Any]] = {
    "Methods": methods,
    "Criteria": criteria,
    "Data sets": datasets,
    "Backbones": backbones,
}


def spaces_page() -> str:
    """Markdown."""
    parts = [OPENING]
    for path, (cls, more) in BLOCKS.items():
        said = "" if cls in (SweepConfig, TrialConfig, SearchConfig) else _summary(cls)
        prose = "\n\n".join(text for text in (said, more) if text)
        parts.append(f"## {f'`{path}`' if path else 'The file'}\n\n{prose}\n\n{_fields(cls)}")
    parts.append("## Plug-ins and their options\n\nWhat each of them does is in [methods](methods.md), "
                 "[backbones](backbones.md) and [data](data.md).\n")  # fmt: skip
    for title, registry in ROOMS.items():
        parts.append(f"### {title}\n\n| name | options, allowed, default |\n|---|---|")
        parts[-1] += "".join(f"\n| `{name}` | {_options(registry.get(name))} |" for name in registry.names()) + "\n"
    parts.append("## Spaces that come along\n\n`scp-ray sweep NAME` runs one, with `--set` to change it.\n")
    for name, file in shipped_spaces().items():
        text = file.read_text(encoding="utf-8")
        parts.append(f"### {name}\n\n{text.splitlines()[0].removeprefix('#').strip()}\n\n```yaml\n{text}```\n")
    return "\n".join(parts)


def _fields(cls: Any) -> str:
    lines = ["| field | allowed | unless given | |", "|---|---|---|---|"]
    hints, comments = get_type_hints(cls, include_extras=True), _comments(cls)
    for field in dataclasses.fields(cls):
        allowed = READ_OTHERWISE.get(field.name) or _cell(describe(hints[field.name]))
        lines.append(f"| `{field.name}` | {allowed} | {_default(field)} | {_cell(comments.get(field.name, ''))} |")
    return "\n".join([*lines, ""])


def _options(cls: Any) -> str:
    hints = get_type_hints(cls, include_extras=True)
    shown = []
    for field in dataclasses.fields(cls):
        if isinstance(hints[field.name], type) and issubclass(hints[field.name], Method):  # of two in one
            shown.append(f"`{field.name}`: options of that method")
            continue
        default = _default(field)
        default = f", {default}" if default == "has to be given" else f" ({default})"
        shown.append(f"`{field.name}`: {_cell(describe(hints[field.name]))}{default}")
    return "<br>".join(shown) or "none"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _shown(field.default)
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return "its own defaults" if dataclasses.is_dataclass(made) else _shown(made)
    return {"method": "`vanilla`", "criterion": "`snnl`"}.get(field.name, "has to be given")


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _comments(cls: Any) -> dict[str, str]:
    """What the class says behind each field, of its own and of those it takes over."""
    found: dict[str, str] = {}
    for base in [base for base in reversed(cls.__mro__) if "__dataclass_fields__" in vars(base)]:
        source = textwrap.dedent(inspect.getsource(base))
        lines = source.splitlines()
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                end = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset or 0 :]
                found[node.target.id] = end.partition("#")[2].strip()
    return found


def _summary(cls: Any) -> str:
    text = re.sub(r"``?([^`]+)``?", r"`\1`", inspect.cleandoc(cls.__doc__ or "")).partition("\n\n")[0]
    return re.sub(r"\s+", " ", text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("``", "`")
