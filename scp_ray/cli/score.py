"""Score the channels of a layer of a trained model, and write them as a table: the lowest would be pruned first.

Of weights in a sweep's folder (models/<trial_id>, bases/<base_id>) all else is known; other weights need --dataset, and
--backbone and --method where they are not vgg11 and vanilla. What is named here counts.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from scp_ray.cli.output import print_json
from scp_ray.cli.spaces import add_address_argument, add_override_arguments, prepare_data_set
from scp_ray.cli.weights import Weights
from scp_ray.errors import ConfigError, ResourceError
from scp_ray.places import any_path

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from scp_ray.config import TrialConfig
    from scp_ray.criteria.base import Criterion
    from scp_ray.parts import Batch, ChannelScores, Learner, PrunableLayer

PARTS = ("dataset", "backbone", "method", "criterion", "layer", "pick")
DEFAULTS = {"backbone": "vgg11", "rounds": 0, "pr_c": 0.02}  # pr_c and rounds decide nothing here
WRITERS: dict[str, Callable[[Any], bytes]] = {
    ".csv": lambda table: table.to_csv(index=False).encode(),
    ".parquet": lambda table: table.to_parquet(index=False),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray score``."""
    parser.add_argument("space", metavar="SPACE", nargs="?", help="take the first arm of a search space as a basis")
    parser.add_argument("--weights", required=True, metavar="W", help="a file, or a model's folder in a sweep")
    for name in PARTS:
        parser.add_argument(f"--{name}", metavar="X", help=f"{name}: a name, or YAML such as '{{name: ..., a: b}}'")
    add_override_arguments(parser)
    parser.add_argument("--scorers", type=_count, default=0, metavar="N", help="Ray actors (default 0: no Ray)")
    parser.add_argument("--gpus-per-scorer", type=_share, default=0.0, metavar="F", help="GPU share of each actor")
    parser.add_argument(
        "--threads", type=_positive, default=1, metavar="T", help="torch threads of a process (default 1)"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add_address_argument(parser, "; without it a local Ray is started")
    parser.add_argument("--out", metavar="FILE", help="a .csv or .parquet file, or its URI (default: CSV on stdout)")
    parser.add_argument("--json", action="store_true", help="print one JSON object: the channels")


def run(options: argparse.Namespace) -> int:
    """Read everything, score, write."""
    from scp_ray.ledger.files import write_bytes

    if options.scorers and options.device == "cuda" and not options.gpus_per_scorer:
        raise ResourceError(
            "--device cuda, but a scorer gets no GPU. Give each a share (--gpus-per-scorer 1), or score on CPUs "
            "(--device cpu)."
        )
    out = any_path(options.out) if options.out else None
    if out is not None and (suffix := PurePath(out.name).suffix) not in WRITERS:
        raise ConfigError(f"--out {out}: allowed are {' and '.join(WRITERS)}.")
    weights = Weights.find(options.weights)
    config = _config(options, weights)
    device = _checked_device(options, config)
    prepare_data_set(config.dataset)
    table, by = _scored(options, weights, config, device)
    if out is not None:
        write_bytes(out, WRITERS[suffix](table))
        print(f"Table: {out}", file=sys.stderr)
    if options.json:
        columns = table.astype(object).where(table.notna(), None)
        print_json({"channels": columns.to_dict("records"), "pieces": by} | ({"table": str(out)} if out else {}))
    elif out is None:
        table.to_csv(sys.stdout, index=False)
    return 0


def _config(options: argparse.Namespace, weights: Weights) -> TrialConfig:
    """SPACE's first arm, or what the sweep knows of the weights, or the defaults; then what the options name."""
    from scp_ray.config import SweepConfig, TrialConfig, read_space
    from scp_ray.config.yaml import read_override, set_path

    named = [f"trial.{name}={getattr(options, name)}" for name in PARTS if getattr(options, name) is not None]
    if options.space:
        raw = read_space(options.space, profile=options.profile, overrides=options.overrides)
        known: dict[str, Any] = SweepConfig.from_dict(raw).resolved_arms()[0].trials[0].config.as_dict()
    else:
        if options.profile:
            raise ConfigError("--profile needs a SPACE, whose profile it names.")
        known, named = weights.config.as_dict() if weights.config else dict(DEFAULTS), [*options.overrides, *named]
    data: dict[str, Any] = {"trial": known}
    for override in named:
        set_path(data, *read_override(override))
    if unknown := [key for key in data if key != "trial"]:
        raise ConfigError(f"--set {unknown[0]}: without a SPACE only paths below trial can be set.")
    if "dataset" not in data["trial"]:
        raise ConfigError(
            "the weights lie in no sweep's folder, so nothing says which images to score on: name them by --dataset, "
            "e.g. --dataset '{name: isic2019, root: DIR, image_size: 128}', or name a SPACE."
        )
    return TrialConfig.from_dict(data["trial"])


def _checked_device(options: argparse.Namespace, config: TrialConfig) -> torch.device:
    """Where this process scores; whatever can be refused before images are decoded is refused here."""
    from scp_ray.backbones.layers import find_layer
    from scp_ray.config.checks import outline
    from scp_ray.devices import choose_device

    config.pick.check(config.criterion, config.dataset.attribute_names)
    find_layer(outline(config.backbone, config.dataset.image_size).layers, config.layer)
    return choose_device("cpu" if options.scorers and not options.gpus_per_scorer else options.device)


def _scored(
    options: argparse.Namespace, weights: Weights, config: TrialConfig, device: torch.device
) -> tuple[pd.DataFrame, dict[str, int]]:
    if not options.scorers:
        return _table(options, weights, config, device)
    from scp_ray.tune.beside import beside_main_thread

    return beside_main_thread(lambda: _table(options, weights, config, device))


def _table(
    options: argparse.Namespace, weights: Weights, config: TrialConfig, device: torch.device
) -> tuple[pd.DataFrame, dict[str, int]]:
    """A row per channel, and how many pieces of the work each process did: see ``Scorers.tally``."""
    import torch

    from scp_ray.allocator import keep_freed_memory
    from scp_ray.assembly import build_learner, layer_scores
    from scp_ray.backbones.layers import find_layer
    from scp_ray.loop.rounds import kept_channels
    from scp_ray.terminal import Counter

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    data, bases = config.dataset.load(), weights.needed_by(config)
    learner = build_learner(config, data, bases).to(device)
    weights.load_(learner)
    layer = find_layer(learner.layers, config.layer)
    if not options.scorers:
        scores = layer_scores(config, data, device, learner, layer, score=_scored_here)
        return _ranked(scores, kept_channels(learner, layer)), {}
    from scp_ray.tune.connection import connected
    from scp_ray.tune.scorers import Scorers

    scorers = Scorers(
        config,
        options.scorers,
        bases=lambda: bases,
        threads=options.threads,
        device=options.device,
        gpus=options.gpus_per_scorer,
        progress=Counter("pieces"),
    )
    with connected(options.address):
        _check_places(options)
        try:
            scores = layer_scores(config, data, device, learner, layer, score=scorers.score)
        finally:
            scorers.close()
    return _ranked(scores, kept_channels(learner, layer)), dict(scorers.tally)


def _scored_here(criterion: Criterion, learner: Learner, layer: PrunableLayer, batches: Any, **options: Any) -> Tensor:
    """``criterion.score`` in this process, which tells how far it is."""
    return criterion.score(learner, layer, _Counted(batches), **options)


class _Counted:
    """Batches that tell how many of them are done."""

    def __init__(self, batches: Any) -> None:
        from scp_ray.terminal import Counter

        self._batches, self._progress = batches, Counter("batches")

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for done, batch in enumerate(self._batches, 1):
            yield batch
            self._progress("scoring", done, len(self))


def _check_places(options: argparse.Namespace) -> None:
    """Tell where fewer have a place at once: the scores are the same. Raises ResourceError where not one has."""
    from scp_ray.tune.node_types import nodes_to_come
    from scp_ray.tune.placement import fits
    from scp_ray.tune.preflight import cluster_nodes

    count, bundle = options.scorers, {"CPU": 1.0, "GPU": options.gpus_per_scorer}
    nodes = cluster_nodes()
    nodes += nodes_to_come([], nodes, count) if options.address else []
    places = next(most for most in range(count, -1, -1) if fits([bundle] * most, nodes))
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    there = f"there are {cpus:g} CPUs and {gpus:g} GPUs on {len(nodes)} nodes"
    if not places:
        raise ResourceError(
            f"no node can hold a scorer of 1 CPU and {bundle['GPU']:g} GPUs; {there}. Ask for a smaller "
            "--gpus-per-scorer, name a cluster that has more (--address), or leave --scorers out."
        )
    if places < count:
        print(f"{places} of {count} scorers have a place at once; {there}.", file=sys.stderr)


def _ranked(scores: ChannelScores, keep: Any) -> pd.DataFrame:
    """Rank 1 goes first; channels that are pruned already have none."""
    import pandas as pd

    table = pd.DataFrame({"channel": range(len(keep)), "score": scores.scores.numpy()})
    if scores.p is not None:
        table["p"] = scores.p.double().numpy()
    table["rank"] = table["score"][keep.numpy()].rank(method="first").astype("Int64")
    table["kept"] = keep.numpy()
    return table


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed is a whole number >= 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed is a whole number >= 1")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf or (share > 1 and share != int(share)):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed is a number >= 0, above 1 only whole numbers")
    return share
