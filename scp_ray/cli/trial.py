"""Run one trial of a space in this process, without Ray: the first arm (of a search: start point) and seed it names.

Use --set to name one: scp-ray trial SPACE --set grid.pr_c=[0.02] --set seeds=[3]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scp_ray.cli.output import print_json
from scp_ray.cli.preparing import leaving_no_trace, ready_arms
from scp_ray.cli.spaces import add_space_arguments, command_line, read_config
from scp_ray.cli.trial_lines import round_line, selected_line, title_line
from scp_ray.errors import LedgerError

if TYPE_CHECKING:
    from scp_ray.config import Arm, SweepConfig
    from scp_ray.ledger import Ledger
    from scp_ray.ledger.records import Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray trial``."""
    add_space_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object: the trial's rows")


def run(options: argparse.Namespace) -> int:
    """Train its bases where they are missing, then run it, into the same ledger as a sweep would."""
    import torch

    from scp_ray.allocator import keep_freed_memory
    from scp_ray.devices import choose_device
    from scp_ray.ledger import Ledger
    from scp_ray.ledger.changes import refuse_other_settings
    from scp_ray.ledger.definition import define, version_notes
    from scp_ray.ledger.files import write_json
    from scp_ray.ledger.lease import lease_on
    from scp_ray.ledger.ledger import sweep_folder
    from scp_ray.terminal import Counter
    from scp_ray.tune.chance import chance_warning
    from scp_ray.tune.record import record_base, record_trial
    from scp_ray.tune.space import base_failed, base_label

    config = read_config(options)
    root = sweep_folder(options.out, config.name)
    device = choose_device(config.resources.device)
    keep_freed_memory()
    torch.set_num_threads(config.resources.threads)
    with leaving_no_trace(root), lease_on(Ledger(root).driver) as lease:
        ledger = Ledger(root, token=lease.token)
        arm = _ready_arm(config, ledger)
        trial = arm.trials[0]
        previous = ledger.definition() if ledger.definition_path.exists() else None
        refuse_other_settings([arm], previous, ledger.rounds)
        for note in version_notes(previous):
            print(f"warning: {note}", file=sys.stderr)
        write_json(ledger.definition_path, define(config, [arm], previous))
        checkpoint_s, progress = 60 * config.checkpoint_minutes, Counter("epochs")
        label, rerun = f"{arm.label}, seed={trial.config.seed}", command_line(options, "trial")
        for identifier in (*trial.bases(), trial.trial_id):
            ledger.forget_failure(identifier)
        for base_id, base in trial.bases().items():
            if not ledger.base_done(base_id):
                progress.note(f"training base {base.method.plugin_name}, seed {base.seed}")
                needing = {trial.trial_id: base_failed(label, base_id, base_label(base))}
                with _kept(ledger, base_id, base_label(base), rerun, needing):
                    record_base(base, ledger, device=device, checkpoint_s=checkpoint_s, progress=progress)
        rows = {f"base {base.method.plugin_name}, seed={base.seed}": ledger.base_row(base_id)
                for base_id, base in trial.bases().items()}  # fmt: skip
        if warning := chance_warning(rows):
            progress.note(warning)
        shown: list[Row] = []
        keep_model = config.keep_models != "none"
        with _kept(ledger, trial.trial_id, label, rerun, {}):
            for row in record_trial(
                trial, ledger, device=device, checkpoint_s=checkpoint_s, keep_model=keep_model, progress=progress
            ):
                if not shown:
                    progress.note(title_line(row))
                shown.append(row)
                progress.note(round_line(row, trial, ledger))
        progress.note(selected_line(trial, shown))
        if options.json:
            print_json({"trial_id": trial.trial_id, "arm": arm.label, "rounds": ledger.rounds(trial.trial_id)})
    print(f"Ledger: {root}", file=sys.stderr)
    return 0


@contextmanager
def _kept(ledger: Ledger, identifier: str, label: str, rerun: str, needing: Mapping[str, Any]) -> Iterator[None]:
    """Keep the failure of what is done inside, as a sweep would, and that of what needs it."""
    import torch

    from scp_ray.tune.space import failure_of

    try:
        yield
    except (OSError, LedgerError, torch.AcceleratorError):
        raise  # of the surroundings: it says nothing of the trial, and the disk may be what fails
    except Exception as error:
        for key, failure in {identifier: failure_of(label, error), **needing}.items():
            ledger.record_failure(key, failure | {"rerun": rerun})
        raise


def _ready_arm(config: SweepConfig, ledger: Ledger) -> Arm:
    """The first arm with its first seed, once all is there that it needs."""
    from scp_ray.ledger.records import rows_done

    def first(arms: list[Arm]) -> tuple[Arm, bool]:
        arm = replace(arms[0], trials=arms[0].trials[:1])
        (trial,) = arm.trials
        return arm, not rows_done(ledger.rounds(trial.trial_id), trial.config.rounds)

    _, arm = ready_arms(
        config,
        new=not ledger.definition_path.exists(),
        plan=first,
        refuse=lambda configs: configs[0].backbone.check_weights(),
    )
    return arm
