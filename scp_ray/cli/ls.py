"""List what can be named in a space: spaces, methods, criteria, datasets, backbones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

ROOMS = ("spaces", "methods", "criteria", "datasets", "backbones")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray ls``."""
    parser.add_argument("room", nargs="?", choices=ROOMS, help="one of them; all of them unless given")


def run(options: argparse.Namespace) -> int:
    """On a terminal with what each one is; elsewhere one name a line."""
    rooms = [options.room] if options.room else list(ROOMS)
    plain = not sys.stdout.isatty()
    for room in rooms:
        entries = _spaces() if room == "spaces" else _plugins(room)
        if plain:
            print("\n".join(entries if options.room else (f"{room} {name}" for name in entries)))
            continue
        print(room)
        width = max(map(len, entries), default=0)
        for name, summary in entries.items():
            print(f"  {name:<{width}}  {summary()}")
    return 0


def _spaces() -> dict[str, Callable[[], str]]:
    from scp_ray.config.yaml import shipped_spaces

    def first_comment(path: Any) -> str:
        head: str = path.read_text(encoding="utf-8").splitlines()[0]
        return head.removeprefix("#").strip()

    return {name: lambda path=path: first_comment(path) for name, path in shipped_spaces().items()}  # type: ignore[misc]


def _plugins(room: str) -> dict[str, Callable[[], str]]:
    import importlib

    registry = getattr(importlib.import_module(f"scp_ray.{'data' if room == 'datasets' else room}.base"), room)

    def summary(name: str) -> str:
        return (registry.get(name).__doc__ or "").splitlines()[0]

    return {name: lambda name=name: summary(name) for name in registry.names()}  # type: ignore[misc]
