"""Plug-ins: a file in a room's folder, a frozen dataclass, one decorator.

``criteria = Registry("criterion", "scp_ray.criteria")`` finds whatever the files of that folder register;
nothing else has to be edited for a new plug-in to be known to ``scp-ray ls``, to YAML and to the contract tests.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from scp_ray.errors import UnknownNameError

T = TypeVar("T")
LATER = {"later": True}  # metadata of a field that came later, whose default means what was done before


class Registry(Generic[T]):
    """Names to plug-in classes of one room."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make a frozen dataclass known as ``name``."""

        def add(cls: type[T]) -> type[T]:
            taken = self._classes.get(name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"{self.kind} {name!r} is registered twice: {taken!r} and {cls!r}. Rename one.")
            cls.plugin_name = name  # type: ignore[attr-defined]
            self._classes[name] = cls
            return cls

        return add

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        self._loaded = True

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._load()
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises UnknownNameError with the nearest one."""
        self._load()
        if name not in self._classes:
            raise UnknownNameError(self.kind, name, self.names())
        return self._classes[name]


def listed(package: str) -> dict[str, str]:
    """What the files of a room's folder register, sorted, each with the first line of its docstring.

    Read from their text: importing them takes torch and seconds.
    """
    spec = importlib.util.find_spec(package)
    found = {}
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        for path in Path(folder).glob("*.py"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            for node in (each for each in body if isinstance(each, ast.ClassDef)):
                for decorator in node.decorator_list:
                    match decorator:
                        case ast.Call(func=ast.Name(id="register"), args=[ast.Constant(value=str(name))]):
                            found[name] = (ast.get_docstring(node) or "").partition("\n")[0]
    return dict(sorted(found.items()))


def spec_of(plugin: Any) -> dict[str, Any]:
    """A plug-in as plain data: its name and every field, e.g. ``{"name": "snnl", "temperature": "auto"}``.

    A field that came later is left out where it has its default: records and ids of before hold.
    """
    fields = {field.name: getattr(plugin, field.name) for field in dataclasses.fields(plugin) if _counts(plugin, field)}
    inner = {name: spec_of(value) for name, value in fields.items() if hasattr(value, "plugin_name")}
    return {"name": plugin.plugin_name} | copy.deepcopy(fields) | inner


def _counts(plugin: Any, field: dataclasses.Field[Any]) -> bool:
    return not field.metadata.get("later") or getattr(plugin, field.name) != field.default
