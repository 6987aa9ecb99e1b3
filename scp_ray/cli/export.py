"""Export the model of a trial's selected round, checked against the masked one, with a model card."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scp_ray.cli.output import print_json
from scp_ray.errors import ConfigError, ScpError

if TYPE_CHECKING:
    from scp_ray.export.source import Chosen, State
    from scp_ray.export.write import Exported
    from scp_ray.ledger import Sweep

KINDS = ("safetensors", "torch-export", "onnx")
_SEED = re.compile(r"(?:^|,)\s*seed=(\d+)\s*(?=,|$)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray export``."""
    parser.add_argument("dir", metavar="DIR", help="a sweep's folder")
    parser.add_argument("trial", metavar="TRIAL", help="its id, the beginning of it, or arm and seed: pr_c=0.02,seed=1")
    parser.add_argument("--format", choices=KINDS, default=KINDS[0], help="of the file (default: %(default)s)")
    parser.add_argument(
        "--compact", action="store_true", help="remove masked channels for good where nothing else needs them"
    )
    parser.add_argument("--out", metavar="FOLDER", help="where it goes (default: DIR/export/...)")
    parser.add_argument("--root", metavar="R", help="where the data set lies on this machine, if not where it did")
    parser.add_argument(
        "--recompute", action="store_true", help="make weights that were not kept again, from the base model"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: the files and what they cost")


def run(options: argparse.Namespace) -> int:
    """Choose, check, write; say what it costs."""
    from scp_ray.export.source import kept_state
    from scp_ray.export.write import load_data, write_export
    from scp_ray.ledger import load_sweep
    from scp_ray.ledger.evidence import fill_evidence

    sweep = load_sweep(options.dir)
    chosen = _chosen(sweep, options.trial)
    command = ["scp-ray", "export", options.dir, chosen.trial_id, "--format", options.format]
    command += ["--compact"] * options.compact + (["--out", options.out] if options.out else [])
    again = shlex.join([*command, *(["--root", options.root] if options.root else []), "--recompute"])
    folder = _folder(options, sweep, chosen)
    data = load_data(chosen, options.root)
    recomputed = options.recompute and not _is_kept(chosen)
    state = _recomputed(chosen, options.root) if recomputed else kept_state(chosen, again)
    fill_evidence(sweep)
    made = write_export(chosen, state, data, options.format, folder, compact=options.compact, recomputed=recomputed)
    if options.json:
        print_json(made.as_dict() | {"trial_id": chosen.trial_id, "round": chosen.round, "recomputed": recomputed})
    else:
        _tell(made, chosen)
    return 0


def _chosen(sweep: Sweep, trial: str) -> Chosen:
    from scp_ray.export.source import choose
    from scp_ray.report.arms import find_arm

    if "=" not in trial:
        return choose(sweep, trial)
    seed = _SEED.search(trial)
    rest = _SEED.sub("", trial).strip(", ")
    labels = [str(arm["label"]) for arm in sweep.definition["arms"]]
    if not rest and len(labels) > 1:
        listed = ", ".join(map(repr, labels[:20])) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
        raise ConfigError(
            f"{trial!r} names no arm, and there are {len(labels)}: {listed}. Name one too, as in "
            f"'{labels[0]}, {trial.strip()}'."
        )
    arm = labels[0] if not rest else find_arm(sweep, rest)
    return choose(sweep, trial, arm=arm, seed=int(seed[1]) if seed else None)


def _folder(options: argparse.Namespace, sweep: Sweep, chosen: Chosen) -> Path:
    name = f"{chosen.trial_id}-{options.format}{'-compact' * options.compact}"
    if options.out:
        if "://" in options.out:
            raise ConfigError(f"--out {options.out}: an export goes to a folder of this machine. Copy it from there.")
        return Path(options.out).absolute()
    root = sweep.ledger.root
    return root / "export" / name if isinstance(root, Path) else Path("export", name).absolute()


def _is_kept(chosen: Chosen) -> bool:
    from scp_ray.export.source import kept_state

    try:
        kept_state(chosen, "")
    except ScpError:
        return False
    return True


def _recomputed(chosen: Chosen, root: str | None) -> State:
    from scp_ray.cli.recompute import recompute

    said = f"making round {chosen.round} of {chosen.trial_id} again from base model {chosen.base_id}"
    print(said, file=sys.stderr)
    return recompute(chosen, root)


def _tell(made: Exported, chosen: Chosen) -> None:
    before, after, timed = made.before, made.after, made.latency
    print(f"Trial {chosen.trial_id}: {chosen.arm['label']}, seed={chosen.seed}, round {chosen.round}, {made.kind}")
    print(
        f"  parameters  {before.parameters:,} -> {after.parameters:,} (not 0: {before.nonzero:,} -> {after.nonzero:,})"
    )
    print(f"  MACs        {before.macs:,} -> {after.macs:,}")
    print(f"  one image   {timed.before_ms:.2f} -> {timed.after_ms:.2f} ms (median of {timed.calls}; {timed.machine})")
    print(
        f"  checked     {made.agreement.images} validation images: logits differ by at most "
        f"{made.agreement.largest:.2g}, {made.agreement.predictions} predictions are the same"
    )
    for layer in made.layers:
        what = f"{layer.removed} removed" if layer.removed else layer.reason
        print(f"  layer {layer.layer}  {layer.masked} of {layer.channels} channels masked: {what}")
    print(made.folder)
