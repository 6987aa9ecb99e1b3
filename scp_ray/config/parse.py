"""Plain data to frozen dataclasses, with every fault collected instead of the first one raised."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import annotated_types
from pydantic import ConfigDict, TypeAdapter, ValidationError

from scp_ray.errors import ConfigError, ScpError, UnknownNameError
from scp_ray.registry import Registry

T = TypeVar("T")
Faults = list[str]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a type cannot say of a field's value, as part of its annotation."""

    holds: Callable[[Any], bool]
    words: str  # completes "allowed is ..."


Reader = Callable[[Any, str, Faults], Any]
_COMPARISONS = {annotated_types.Gt: ">", annotated_types.Ge: ">=", annotated_types.Lt: "<", annotated_types.Le: "<="}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}


def read_fields(
    cls: type[T], data: Any, path: str, faults: Faults, readers: Mapping[str, Reader] | None = None
) -> T | None:
    """A dataclass from a mapping; faults go to ``faults``, and then the result is None.

    Args:
        cls: a frozen dataclass; its annotations are the allowed types and ranges.
        data: a mapping of field names to values.
        path: where the mapping stands, for messages.
        readers: for fields that are not plain values, how to read them.
    """
    if not isinstance(data, Mapping):
        faults.append(f"{path}: got {_shown(data)}; allowed is a mapping of {', '.join(_names(cls))}.")
        return None
    before, hints = len(faults), _hints(cls)  # type: ignore[arg-type]
    values = {}
    for key, value in data.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in hints:
            faults.append(unknown_key(where, key, hints))
        elif readers and key in readers:
            values[key] = readers[key](value, where, faults)
        else:
            values[key] = read_value(hints[key], value, where, faults)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and field.name not in values:
            where = f"{path}.{field.name}" if path else field.name
            faults.append(f"{where}: missing; it is needed and has to be {describe(hints[field.name])}.")
    if len(faults) > before:
        return None
    try:
        return cls(**values)
    except ConfigError as error:
        faults += [f"{path}.{fault}" if path else fault for fault in error.faults]
    except (ScpError, ValueError) as error:
        faults.append(f"{path}: {error}")
    return None


def read_value(kind: Any, value: Any, path: str, faults: Faults) -> Any:
    """One value, checked strictly: no text taken for a number, no NaN, no infinity."""
    if dataclasses.is_dataclass(kind):
        return read_fields(kind, value, path, faults)  # type: ignore[arg-type]
    if get_origin(kind) is list and dataclasses.is_dataclass(of := get_args(kind)[0]) and isinstance(value, list):
        return [read_fields(of, each, f"{path}[{at}]", faults) for at, each in enumerate(value)]  # type: ignore[arg-type]
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    is_tuple = isinstance(value, list) and any(get_origin(each) is tuple for each in kinds)  # YAML has no tuples
    try:
        checked = _adapter(kind).validate_python(tuple(value) if is_tuple else value)
        fits = all(rule.holds(checked) for rule in _rules(kind))
    except ValidationError:
        checked, fits = None, False
    if fits:
        return checked
    faults.append(f"{path}: got {_shown(value)}; allowed is {describe(kind)}.")
    return None


def read_plugin(registry: Registry[T], data: Any, path: str, faults: Faults) -> T | None:
    """A plug-in from its name, or from a mapping of its name and fields."""
    options = {"name": data} if isinstance(data, str) else data
    if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
        faults.append(
            f"{path}: got {_shown(data)}; allowed is a name or a mapping with a name. "
            f"Known: {', '.join(registry.names())}."
        )
        return None
    try:
        cls = registry.get(options["name"])
    except UnknownNameError as error:
        faults.append(f"{path}: {error}")
        return None
    return read_fields(cls, {key: value for key, value in options.items() if key != "name"}, path, faults)


def unknown_key(path: str, key: object, known: Mapping[str, Any]) -> str:
    """The sentence for a key that nothing answers to."""
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{path}: unknown key.{hint} Known here: {', '.join(sorted(known))}."


def describe(kind: Any) -> str:
    """A type annotation in words, e.g. "a number > 0 and < 1"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if rules := _rules(kind):
        return " and ".join(rule.words for rule in rules)
    if origin is Annotated:
        bounds = [f"{_COMPARISONS[type(m)]} {_bound(m):g}" for m in arguments[1:] if type(m) in _COMPARISONS]
        return f"{describe(arguments[0])} {' and '.join(bounds)}".strip()
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in arguments if part is not type(None))
    if origin in (list, tuple):
        return f"a list, each {describe(arguments[0])}"
    if origin is dict:
        return _WORDS[dict]
    if dataclasses.is_dataclass(kind):
        return f"a mapping of {', '.join(_names(kind))}"
    return _WORDS.get(kind, f"a {getattr(kind, '__name__', kind)} by name")


def _rules(kind: Any) -> list[Rule]:
    return [part for part in getattr(kind, "__metadata__", ()) if isinstance(part, Rule)]


def _bound(bound: Any) -> float:
    return float(next(iter(dataclasses.asdict(bound).values())))


def _names(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


def _shown(value: object) -> str:
    hint = ""
    if isinstance(value, str):
        try:
            float(value)
            hint = ", text: write the number without quotes"
        except ValueError:
            hint = ""
    return f"{value!r} ({type(value).__name__}{hint})"


@lru_cache
def _hints(cls: Hashable) -> dict[str, Any]:
    """Annotations of the dataclass's fields, ranges included."""
    hints = get_type_hints(cls, include_extras=True)
    return {name: hints[name] for name in _names(cls)}


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
