"""Look at a data set before anything is trained: check its health, decode it once, draw what training sees.

Options of the data set are set as in a search space: --set splits=leak_free --set sensitive=age.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scp_ray.cli.output import print_json

if TYPE_CHECKING:
    from scp_ray.data.base import DataSet
    from scp_ray.data.health import Health

COLUMNS = ("rows", "group 0", "group 1", "empty cells", "thin cells", "unknown group")
PICTURES = (".png", ".jpg", ".pdf", ".svg")
NAMED = 10  # images named in a line; --json names all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray data``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|build|show")
    check = _action(actions, "check", "say what is wrong with the data set, by number and by name", _check)
    check.add_argument("--strict", action="store_true", help="exit with 2 where files are unusable or splits leak")
    check.add_argument("--tables-only", action="store_true", help="do not look at the images")
    build = _action(actions, "build", "decode and resize all images once, into the store that sweeps use", _build)
    build.add_argument("--verify", action="store_true", help="read every file again, whatever its size and time say")
    show = _action(actions, "show", "draw a page of training images as the augmentation changes them", _show)
    show.add_argument("--out", metavar="FILE", help="the picture (default: NAME-samples.png)")
    show.add_argument("--augment", default="released", choices=("released", "flips", "none"), help="the recipe")
    show.add_argument("--samples", type=_count, default=8, metavar="N", help="rows of the page (default: 8)")
    show.add_argument("--draws", type=_count, default=7, metavar="N", help="augmented draws of each (default: 7)")
    show.add_argument("--seed", type=int, default=0, metavar="N", help="of the choice and of the draws (default: 0)")


def _action(actions: Any, name: str, summary: str, run: Callable[..., int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary.capitalize())
    parser.add_argument("name", metavar="NAME", help="a data set (scp-ray ls datasets)")
    parser.add_argument("--root", metavar="R", help="the folder that holds its tables and images/")
    parser.add_argument("--image-size", type=int, metavar="S", help="pixels a side of the decoded images")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="a=b", help="an option of the data set"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(act=run)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed is a whole number from 1 on")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Make the data set, then do as asked."""
    code: int = options.act(options, _data_set(options))
    return code


def _data_set(options: argparse.Namespace) -> DataSet:
    from scp_ray.config.parse import Faults, read_plugin
    from scp_ray.config.yaml import read_override, set_path
    from scp_ray.data.base import datasets
    from scp_ray.errors import ConfigError

    raw: dict[str, Any] = {"name": options.name}
    raw |= {key: value for key in ("root", "image_size") if (value := getattr(options, key)) is not None}
    for override in options.overrides:
        set_path(raw, *read_override(override))
    if options.action == "check" and raw.pop("strict", False):
        options.strict = True  # a check says everything before it refuses
    faults: Faults = []
    data_set = read_plugin(datasets, raw, "dataset", faults)
    if data_set is None:
        missing = "dataset.root: missing; "
        how = f"{missing}name the folder that holds the tables and images/ by --root DIR."
        raise ConfigError([how if fault.startswith(missing) else fault for fault in faults])
    return data_set


def _check(options: argparse.Namespace, data_set: DataSet) -> int:
    from scp_ray.terminal import Counter

    health = data_set.health(Counter("images"), tables_only=options.tables_only)
    faults = health.faults()
    if options.json:
        print_json({"dataset": options.name, "root": options.root, **health.as_dict(), "faults": faults})
    else:
        _print_health(health)
        if options.tables_only and getattr(data_set, "splits", "") == "leak_free":
            print("Duplicates are not known without the images: the split may be dealt otherwise with them.")
    if options.strict and faults:
        print("\n  ".join(["scp-ray: refused by --strict:", *faults]), file=sys.stderr)
        return 2
    return 0


def _print_health(health: Health) -> None:
    print(f"{health.listed:,} rows listed{'' if health.images_checked else '; images not looked at'}\n")
    print(f"{'split':<7}" + "".join(f"{title:>15}" for title in COLUMNS))
    for split, rows in health.splits.items():
        groups, cells = health.groups[split], (health.absent_cells[split], health.thin_cells[split])
        counts = (rows, groups[0], groups[1], len(cells[0]), len(cells[1]), health.unknown_group[split])
        print(f"{split:<7}" + "".join(f"{count:>15,}" for count in counts))
    print("\n" + "\n".join(health.notes() or ["Nothing to note."]))
    named = {"missing": health.missing, "unreadable": [f"{name} ({why})" for name, why in health.unreadable.items()]}
    named |= {"truncated (part of unreadable)": health.truncated} | health.converted
    named |= {"duplicates": [" = ".join(group) for group in health.duplicates]}
    for kind, names in named.items():
        if names:
            more = f"\n  and {len(names) - NAMED:,} more: --json names all" if len(names) > NAMED else ""
            print(f"\n{kind}:\n  " + "\n  ".join(names[:NAMED]) + more)


def _build(options: argparse.Namespace, data_set: DataSet) -> int:
    from scp_ray.terminal import Counter, duration

    started = time.monotonic()
    path = data_set.build(Counter("images"), verify=options.verify, mend=True)
    if path is None:
        print(f"{options.name} is drawn, not decoded: there is no store to build.", file=sys.stderr)
    else:
        print(f"{path.stat().st_size / 1e6:,.0f} MB in {duration(time.monotonic() - started)}", file=sys.stderr)
    if options.json:
        print_json({"dataset": options.name, "store": path and str(path), "identity": data_set.identity()})
    elif path is not None:
        print(path)
    return 0


def _show(options: argparse.Namespace, data_set: DataSet) -> int:
    from scp_ray.data.page import draw_page
    from scp_ray.errors import ConfigError
    from scp_ray.report.figures.samples import draw_samples
    from scp_ray.terminal import Counter

    path = Path(options.out or f"{options.name}-samples.png")
    if path.suffix.lower() not in PICTURES:
        raise ConfigError(f"--out {path}: got {path.suffix or 'no suffix'}; allowed are {', '.join(PICTURES)}.")
    data_set.build(Counter("images"))
    page = draw_page(data_set.load(), options.augment, options.samples, options.draws, options.seed)
    title = f"{options.name}, train: as stored, then {options.draws} draws of {options.augment!r}"
    figure = draw_samples(page, title)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written: {error}. Choose another place.") from error
    if options.json:
        print_json({"dataset": options.name, "picture": str(path)})
    else:
        print(path)
    return 0
