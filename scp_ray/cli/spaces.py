"""What the commands that take a search space share."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scp_ray.config import SweepConfig
    from scp_ray.data.base import DataSet


WAIT_S = 900.0


def seconds_of(text: str) -> float:
    """ "90s", "15m" or "2h" in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed is a number with its unit, such as 90s, 15m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def add_space_arguments(parser: argparse.ArgumentParser) -> None:
    """SPACE, --out, --profile and --set."""
    parser.add_argument(
        "space", metavar="SPACE", help="a YAML file, or the name of a shipped space (scp-ray ls spaces)"
    )
    parser.add_argument("--out", default="results", metavar="DIR", help="where DIR/<name>/ is made (default: results)")
    add_override_arguments(parser)


def add_address_argument(parser: argparse.ArgumentParser, about: str) -> None:
    """--address of a running Ray cluster."""
    parser.add_argument("--address", type=_address, metavar="A", help=f"a running Ray cluster{about}")


def _address(text: str) -> str:
    if not text:  # an empty variable of a script: taken for none, it would start a Ray here
        raise argparse.ArgumentTypeError("got ''; allowed is host:port or auto; without a cluster leave it out")
    return text


def add_override_arguments(parser: argparse.ArgumentParser) -> None:
    """--profile and --set."""
    parser.add_argument("--profile", metavar="P", help="a named block of overrides of the space, e.g. smoke")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="a.b=c",
        help="override a path from the top of the file, e.g. --set trial.dataset.root=DIR; may be repeated",
    )


def read_raw(options: argparse.Namespace) -> dict[str, Any]:
    """The definition that the options ask for, as it was written."""
    from scp_ray.config import read_space

    return read_space(options.space, profile=options.profile, overrides=options.overrides)


def read_config(options: argparse.Namespace) -> SweepConfig:
    """The checked definition that the options ask for."""
    from scp_ray.config import SweepConfig

    return SweepConfig.from_dict(read_raw(options))


def prepare_data(config: SweepConfig, *, decode: bool = True) -> None:
    """Look at the data sets' files, build the stores that are missing, and say what is wrong and what is done about it.

    Raises DataError where a data set cannot be used.
    """
    for data_set in config.data_sets():
        prepare_data_set(data_set, decode=decode)


def prepare_data_set(data_set: DataSet, *, decode: bool = True) -> None:
    """``prepare_data`` of one."""
    from scp_ray.terminal import Counter

    progress = Counter("images")
    if decode:
        data_set.build(progress)
    for note in data_set.health(progress).notes():
        print(f"{data_set.plugin_name}: {note}", file=sys.stderr)


def command_line(options: argparse.Namespace, command: str, *more: str) -> str:
    """The command that asks for the same again, from any folder but for relative paths in --set."""
    from scp_ray.places import any_path

    space = str(Path(options.space).absolute()) if Path(options.space).is_file() else options.space
    words = ["scp-ray", command, space, "--out", str(any_path(options.out).absolute())]
    words += ["--profile", options.profile] if options.profile else []
    for override in options.overrides:
        words += ["--set", override]
    if getattr(options, "address", None):
        words += ["--address", options.address]
    if getattr(options, "wait", WAIT_S) != WAIT_S:
        words += ["--wait", f"{options.wait:g}s"]
    return shlex.join([*words, *more])
