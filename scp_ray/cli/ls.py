"""List what can be named in a space: spaces, methods, criteria, datasets, backbones."""

from __future__ import annotations

import argparse
import sys

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
            print(f"  {name:<{width}}  {summary}")
    return 0


def _spaces() -> dict[str, str]:
    """Each with its first comment."""
    from scp_ray.config.yaml import shipped_spaces

    heads = {name: path.read_text(encoding="utf-8").splitlines()[0] for name, path in shipped_spaces().items()}
    return {name: head.removeprefix("#").strip() for name, head in heads.items()}


def _plugins(room: str) -> dict[str, str]:
    from scp_ray.methods.joins import JOINED
    from scp_ray.registry import listed

    found = listed(f"scp_ray.{'data' if room == 'datasets' else room}")
    if room == "methods":
        found |= {name: f"{first}, then {second}." for name, (first, second) in JOINED.items()}
    return dict(sorted(found.items()))
