"""A trial's weights made again from its base model, which is always kept: nothing in the ledger is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scp_ray.errors import LedgerError

if TYPE_CHECKING:
    from torch import Tensor

    from scp_ray.export.source import Chosen


def recompute(chosen: Chosen, root: str | None = None) -> dict[str, Tensor]:
    """The weights of the selected round, masks included. Raises LedgerError where they answer otherwise than before.

    The same numbers, bit for bit, take the same versions and kind of device, and as many threads as the ledger says.
    """
    import torch

    from scp_ray.allocator import keep_freed_memory
    from scp_ray.config import TrialConfig
    from scp_ray.devices import choose_device
    from scp_ray.parts import state_to_cpu
    from scp_ray.terminal import Counter
    from scp_ray.trial import BaseModel, Step, run_trial
    from scp_ray.tune.record import needed_states

    row, config, ledger = chosen.row, chosen.config, chosen.sweep.ledger
    if root is not None:
        plain = config.as_dict()
        config = TrialConfig.from_dict(plain | {"dataset": plain["dataset"] | {"root": root}})
    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(int(row["threads"]))
    try:
        events = run_trial(
            replace(config, rounds=max(config.rounds, chosen.round)),
            BaseModel(ledger.base_state(chosen.base_id), ledger.base_report(chosen.base_id, int(row["num_classes"]))),
            device=choose_device("cpu" if row["device"] == "cpu" else "auto"),
            bases=needed_states(config, ledger),
            reference=ledger.base_report(str(row["vanilla_id"]), int(row["num_classes"])),
        )
        progress = Counter("epochs")
        for event in events:
            if isinstance(event, Step):
                done = (event.round - 1) * event.epochs + event.epoch
                progress("making it again", done, chosen.round * event.epochs)
            elif event.index == chosen.round:
                _check(chosen, event, row)
                state: dict[str, Tensor] = state_to_cpu(event.learner.state_dict())
                return state
    finally:
        torch.set_num_threads(threads)
    raise LedgerError(f"trial {chosen.trial_id} ended before round {chosen.round}: it is not the one of the ledger.")


def _check(chosen: Chosen, event: Any, row: dict[str, Any]) -> None:
    known = chosen.predictions["prediction"].to_numpy()
    other = int((known != event.val.prediction.numpy()).sum())
    if other:
        raise LedgerError(
            f"made again, round {chosen.round} of trial {chosen.trial_id} says of {other} of {len(known)} validation "
            f"images something else than the ledger: it is another model, and was not exported. The ledger's ran on "
            f"{row['device']} with {row['threads']} threads and torch "
            f"{chosen.sweep.definition.get('versions', {}).get('torch')}; a GPU's training is not the same twice. A "
            "sweep keeps every trial's model with --set keep_models=selected."
        )
