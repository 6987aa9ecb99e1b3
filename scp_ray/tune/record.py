"""Run a base model or a trial and keep it in the ledger, going on from whatever is there. No Ray."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from scp_ray.assembly import BatchScores, State, layer_scores
from scp_ray.config import ResolvedTrial, TrialConfig
from scp_ray.config.identity import base_id as id_of_base
from scp_ray.config.identity import data_identity, data_units, scores_id, with_method
from scp_ray.errors import BatchTooLargeError
from scp_ray.ledger import Ledger
from scp_ray.ledger.definition import data_key
from scp_ray.ledger.records import Row, rows_done, stopped_early
from scp_ray.ledger.rows import base_row, copied_row, round_row
from scp_ray.ledger.states import States
from scp_ray.loop.rounds import kept_channels
from scp_ray.loop.stopping import Standing, select_round, stop_reasons
from scp_ray.maths.report import FairnessReport
from scp_ray.methods.base import all_needs
from scp_ray.methods.vanilla import Vanilla
from scp_ray.parts import ChannelScores, FairnessData, Learner, PrunableLayer
from scp_ray.terminal import Progress, silent
from scp_ray.trial import BaseModel, Step, run_trial, train_base

SECOND_TRY = 2  # micro-batches of a training batch that memory did not take whole


def record_base(
    config: TrialConfig,
    ledger: Ledger,
    *,
    device: torch.device,
    checkpoint_s: float = 600,
    progress: Progress = silent,
) -> Row:
    """Train a base model, or go on with one that was interrupted; returns its row, which is then committed.

    ``progress`` is told of every epoch. Where memory does not take its batches it is run once more from its last state,
    each batch cut in two. Raises BatchTooLargeError where that does not help, or cannot be done.
    """
    try:
        return _record_base(config, ledger, device, checkpoint_s, progress)
    except BatchTooLargeError as error:
        if not error.can_be_cut:
            raise
    _give_memory_back(device)
    return _record_base(config, ledger, device, checkpoint_s, progress, micro_batches=SECOND_TRY)


def _record_base(
    config: TrialConfig,
    ledger: Ledger,
    device: torch.device,
    checkpoint_s: float,
    progress: Progress,
    micro_batches: int = 1,
) -> Row:
    base_id = id_of_base(config)
    states, clock = ledger.states(base_id), _Clock(checkpoint_s)
    stage = f"base {config.method.plugin_name}, seed {config.seed}"
    if ledger.base_done(base_id):  # by a worker that died before it could say so
        states.remove()
        return ledger.base_row(base_id)
    data = _load(config, ledger)
    is_vanilla = isinstance(config.method, Vanilla)
    reference = None if is_vanilla else _vanilla_report(config, ledger)
    bases = needed_states(config, ledger)
    events = train_base(
        config, device=device, bases=bases, reference=reference, resume=states.load(), micro_batches=micro_batches
    )
    for event in events:
        if isinstance(event, Step):
            clock.save(states, event)
            progress(stage, event.epoch, event.epochs)
        else:
            row = base_row(config, base_id, event, str(device))
            ledger.commit_base(base_id, row, event, data)
            states.remove()
            return row
    raise AssertionError("train_base ends with a Result")


def record_trial(
    trial: ResolvedTrial,
    ledger: Ledger,
    *,
    device: torch.device,
    checkpoint_s: float = 600,
    keep_model: bool = True,
    score: BatchScores | None = None,
    progress: Progress = silent,
) -> Iterator[Row]:
    """Yield the row of each round: those in the ledger first, then each new one as soon as it is committed.

    Rows that are there come too, because a worker may have died between a commit and its report. The trial's base
    models have to be in the ledger. ``score`` takes the place of scoring in this process. ``progress`` is told of every
    epoch of all rounds. Memory that does not take a batch is met as by ``record_base``.
    """
    last_told = -1
    try:
        for row in _record_trial(trial, ledger, device, checkpoint_s, keep_model, score, progress):
            last_told = row["round"]
            yield row
        return
    except BatchTooLargeError as error:
        if not error.can_be_cut:
            raise
    _give_memory_back(device)
    again = _record_trial(trial, ledger, device, checkpoint_s, keep_model, score, progress, SECOND_TRY)
    yield from (row for row in again if row["round"] > last_told)


def _give_memory_back(device: torch.device) -> None:
    """What the first try has left in torch's cache, in pieces that may be too small now."""
    if device.type == "cuda":
        gc.collect()  # a model and its optimizer hold each other through hooks and closures
        torch.cuda.empty_cache()


def _record_trial(
    trial: ResolvedTrial,
    ledger: Ledger,
    device: torch.device,
    checkpoint_s: float,
    keep_model: bool,
    score: BatchScores | None,
    progress: Progress,
    micro_batches: int = 1,
) -> Iterator[Row]:
    config, data = trial.config, _load(trial.config, ledger)
    base, states, clock = ledger.base_row(trial.base_id), ledger.states(trial.trial_id), _Clock(checkpoint_s)
    vanilla = ledger.base_report(trial.vanilla_id, data.num_classes)
    rows = ledger.rounds(trial.trial_id)
    if not rows:
        rows = [copied_row(trial, base, vanilla)]
        ledger.start_trial(trial.trial_id, rows[0])
    done = rows_done(rows, config.rounds)
    if not done and stopped_early(rows[-1]):
        rows[-1] = ledger.take_up_trial(trial.trial_id)
    yield from rows
    if done:
        states.keep_newest()
        return
    resume, rows = _where_to_go_on(states, rows)
    events = run_trial(
        config,
        BaseModel(ledger.base_state(trial.base_id), ledger.base_report(trial.base_id, data.num_classes)),
        device=device,
        bases=needed_states(config, ledger),
        reference=vanilla,
        history=_standings(trial, rows),
        resume=resume,
        score=partial(_shared_scores, trial, ledger, data, device, score),
        micro_batches=micro_batches,
    )
    for event in events:
        if isinstance(event, Step):
            clock.save(states, event)
            progress("fine-tuning", (event.round - 1) * event.epochs + event.epoch, config.rounds * event.epochs)
            continue
        row = round_row(trial, base, vanilla, event, str(device))
        rows.append(row)
        if keep_model and selected_round(trial, rows) == event.index:
            ledger.save_model(trial.trial_id, event.index, event.learner.state_dict())
        ledger.commit_round(trial.trial_id, row, event, data)
        yield row
    states.keep_newest()


def _load(config: TrialConfig, ledger: Ledger) -> FairnessData:
    """The data set. Raises DataError where it is not the one that the sweep was planned with."""
    data = config.dataset.load()
    ledger.check_data(data_key(data_identity(config.dataset)), data.sources, data_units(config.dataset))
    return data


class _Clock:
    """Saves at every round's end, and at an epoch's end where the last time is long ago."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._last = time.monotonic()

    def save(self, states: States, step: Step) -> None:
        if step.ends_round or time.monotonic() - self._last >= self._every_s:
            states.save(step.snapshot())
            self._last = time.monotonic()


def _where_to_go_on(states: States, rows: list[Row]) -> tuple[State | None, list[Row]]:
    """The state to resume from and the rows that come before it; the base and round 0 where no state fits."""
    state, committed = states.load(), len(rows) - 1
    if state is None or state["round"] > committed + 1:
        return None, rows[:1]
    whole = state["epoch"] == state["epochs"]
    return state, rows[: state["round"] + 1] if whole else rows[: state["round"]]


def selected_round(trial: ResolvedTrial, rows: Sequence[Row]) -> int:
    """The round that speaks for a trial, of those in ``rows``."""
    rule = trial.config.stop
    fates = [row[f"val_fate_{rule.gap}_base"] for row in rows]
    return select_round(trial.config.select, fates, stop_reasons(_standings(trial, rows), rule))


def _standings(trial: ResolvedTrial, rows: Sequence[Row]) -> list[Standing]:
    return [Standing(row["val_f1"], row[f"val_{trial.config.stop.gap}"]) for row in rows]


def _shared_scores(
    trial: ResolvedTrial,
    ledger: Ledger,
    data: FairnessData,
    device: torch.device,
    score: BatchScores | None,
    learner: Learner,
    layer: PrunableLayer,
) -> ChannelScores:
    """Scores of the unpruned base are made once and shared by all arms; later ones are the trial's own."""
    if not bool(kept_channels(learner, layer).all()):
        return layer_scores(trial.config, data, device, learner, layer, score=score)
    name = scores_id(trial.config, layer)
    scores = ledger.scores(trial.base_id, name)
    if scores is None:
        scores = layer_scores(trial.config, data, device, learner, layer, score=score)
        ledger.save_scores(trial.base_id, name, scores)
    return scores


def needed_states(config: TrialConfig, ledger: Ledger) -> dict[str, State]:
    """Weights of the base models that the trial's method needs, by its plug-in name."""
    needed = {method.plugin_name: with_method(config, method) for method in all_needs(config.method)}
    return {name: ledger.base_state(id_of_base(base)) for name, base in needed.items()}


def _vanilla_report(config: TrialConfig, ledger: Ledger) -> FairnessReport:
    return ledger.base_report(id_of_base(with_method(config, Vanilla())), len(config.dataset.class_names))
