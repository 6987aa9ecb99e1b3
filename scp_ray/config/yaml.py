"""Search spaces as files: safe YAML, profiles and overrides by dotted path."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scp_ray.errors import ConfigError, UnknownNameError

_PACKAGE = Path(__file__).resolve().parent.parent


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as a number (YAML 1.1 wants 1.0e-4) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"line {line}: a key has to be a word, not a list or a mapping.")
            if key_node.value in seen:
                raise ConfigError(f"{key_node.value!r} is given twice, the second time in line {line}.")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = copy.deepcopy(yaml.SafeLoader.yaml_implicit_resolvers)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def shipped_spaces() -> dict[str, Path]:
    """Names and files of the search spaces that come with the package."""
    for folder in (_PACKAGE / "search_spaces", _PACKAGE.parent / "search_spaces"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def find_space(space: str) -> Path:
    """The file of a path or of a shipped space's name. Raises UnknownNameError."""
    path = Path(space)
    if path.is_file():
        return path
    shipped = shipped_spaces()
    if space in shipped:
        return shipped[space]
    raise UnknownNameError("search space (a path, or the name of a shipped one)", space, shipped)


def read_space(space: str, *, profile: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The raw definition: the file, then the profile, then ``a.b=value`` overrides, in this order.

    Raises ConfigError for broken YAML, an unknown profile or an override that is no path=value.
    """
    path = find_space(space)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8: {error}. Save it as UTF-8.") from error
    data = _load(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a search space is a mapping with name, trial and grid; got {type(data).__name__}.")
    profiles = data.pop("profiles", None) or {}
    if not isinstance(profiles, Mapping):
        raise ConfigError(f"{path}: profiles has to be a mapping of names to overrides; got {profiles!r}.")
    if profile is not None:
        if not profiles:
            raise ConfigError(
                f"{path}: got the profile {profile!r}, and this space has none. Leave --profile out, or write the "
                "overrides under profiles: in the file."
            )
        if profile not in profiles:
            raise UnknownNameError(f"{path}: profile", profile, profiles)
        changes = profiles[profile] or {}
        if not isinstance(changes, Mapping) or not all(isinstance(key, str) for key in changes):
            raise ConfigError(
                f"{path}: profile {profile}: got {changes!r}; allowed is a mapping of dotted paths to values, "
                "e.g. trial.rounds: 2."
            )
        for key, value in changes.items():
            set_path(data, key, value)
    for override in overrides:
        set_path(data, *read_override(override))
    return data


def read_override(override: str) -> tuple[str, Any]:
    """ "a.b=value" as path and value. Raises ConfigError."""
    key, found, text = override.partition("=")
    if not found or not key:
        raise ConfigError(f"--set {override!r}: write it as a.b=value, e.g. --set trial.dataset.root=DIR.")
    return key, _load(text, f"--set {override}")


def set_path(data: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path in place. A plug-in given by name alone becomes a mapping when a field of it is set."""
    *parents, last = path.split(".")
    for depth, key in enumerate(parents):
        inner = data.get(key)
        if isinstance(inner, str):
            inner = {"name": inner}
        elif inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            where = ".".join(parents[: depth + 1])
            raise ConfigError(f"{path}: {where} is {inner!r}, which has no fields, so {last!r} cannot be set in it.")
        data[key] = inner = dict(inner)  # an anchor (fine_tune: *plan) is one mapping in two places
        data = inner
    data[last] = copy.deepcopy(value)


def _load(text: str, source: str) -> Any:
    try:
        # _Loader is a SafeLoader: it makes plain data only
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
