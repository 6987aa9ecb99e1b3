"""One trial from its base model to its last round; no Ray, no disk.

Both runners are generators of steps and rounds. A step is a place to save the state at; a round is a result. Who
keeps what is the caller's business, and so is the test split: its predictions are made here, never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from scp_ray.assembly import State, build_learner, layer_scores, prune_plan, train_feed
from scp_ray.backbones.layers import find_layer
from scp_ray.data.batches import eval_batches, place
from scp_ray.devices import peak_memory_mb
from scp_ray.loop.evaluate import evaluate
from scp_ray.loop.fit import fit_epochs
from scp_ray.loop.picking import Scorer
from scp_ray.loop.rounds import RoundUnderWay, prune_steps
from scp_ray.loop.stopping import Standing
from scp_ray.maths.masks import load_masked_state_
from scp_ray.maths.report import FairnessReport
from scp_ray.parts import (
    ChannelScores,
    Evaluation,
    FairnessData,
    Learner,
    Round,
    TrainPlan,
    state_to_cpu,
)
from scp_ray.seeds import derive_seed

if TYPE_CHECKING:
    from scp_ray.config import TrialConfig


@dataclass(frozen=True)
class Step:
    """An epoch is over. ``snapshot()`` copies what ``resume`` needs to go on from here."""

    round: int
    epoch: int
    epochs: int
    snapshot: Callable[[], State]

    @property
    def ends_round(self) -> bool:
        """Nothing is left of this round but to evaluate it."""
        return self.epoch == self.epochs


@dataclass(frozen=True)
class Result:
    """A round with its predictions on validation and test; round 0 is the base model."""

    index: int
    learner: Learner  # live: copy what is to be kept
    val: Evaluation
    test: Evaluation
    round: Round | None  # None for round 0
    seconds: dict[str, float]
    peak_memory_mb: float
    means: dict[str, float] = field(default_factory=dict)
    micro_batch: int | None = None  # images trained on at a time, where memory did not take whole batches


@dataclass(frozen=True)
class BaseModel:
    """A trained, unpruned model with its round 0."""

    state: State
    val: FairnessReport


def train_base(
    config: TrialConfig,
    *,
    device: torch.device | str = "cpu",
    bases: Mapping[str, State] | None = None,
    reference: FairnessReport | None = None,
    resume: State | None = None,
    micro_batches: int = 1,
) -> Iterator[Step | Result]:
    """Train the base model of a trial; the last thing yielded is its Result, round 0.

    Args:
        bases: trained state dicts of the methods that ``config.method`` needs (and those need), by plug-in name.
        reference: the vanilla model's validation report, for methods that calibrate against it.
        resume: a snapshot of this function's own steps.
        micro_batches: into how many each training batch is cut; a resumed one is cut as before, or finer.

    Raises BatchTooLargeError where memory does not take a training batch.
    """
    device, started = torch.device(device), time.perf_counter()
    data = config.dataset.load()
    learner = build_learner(config, data, bases or {}).to(device)
    learner.micro_batches = _micro_batches(resume, micro_batches)
    done = resume or {"epoch": 0, "optimizers": {}, "means": {}}
    if resume:
        load_masked_state_(learner, resume["learner"])
    plan = replace(config.train, epochs=0) if config.method.post_hoc else config.train
    feed, means = train_feed(config, plan, data, device), done["means"]
    for epoch in fit_epochs(
        learner,
        feed,
        plan,
        seed=derive_seed(config.seed, "train"),
        start=done["epoch"],
        optimizers=done["optimizers"],
    ):
        means = epoch.means
        yield Step(0, epoch.index, epoch.total, partial(_snapshot, learner, epoch, 0))
    config.method.finish_(learner, eval_batches(place(data.splits["train"], device)))
    fitted = time.perf_counter()
    val = _calibrated(config, learner, data, device, reference)
    test = evaluate(learner, eval_batches(place(data.splits["test"], device)))
    seconds = {"fit": fitted - started, "evaluate": time.perf_counter() - fitted}
    micro_batch = _micro_batch(learner, plan)
    yield Result(0, learner, val, test, None, seconds, peak_memory_mb(device), means, micro_batch)


def run_trial(
    config: TrialConfig,
    base: BaseModel | None = None,
    *,
    device: torch.device | str = "cpu",
    bases: Mapping[str, State] | None = None,
    reference: FairnessReport | None = None,
    history: list[Standing] | None = None,
    resume: State | None = None,
    score: Scorer | None = None,
    micro_batches: int = 1,
) -> Iterator[Step | Result]:
    """Prune and fine-tune round after round, yielding every step and result from round 1 on.

    Args:
        base: the trained base; without it one is trained first and its result comes as round 0.
        bases: as for ``train_base``.
        reference: the vanilla model's validation report.
        history: standings of the rounds that are over, round 0 first, where the trial goes on.
        resume: the snapshot to go on from: of the round under way, or of the last one in ``history``.
        score: scores a layer; the local scorer unless given.
        micro_batches: as for ``train_base``.
    """
    device = torch.device(device)
    data = config.dataset.load()
    if base is None:
        final = None
        base_events = train_base(config, device=device, bases=bases, reference=reference, micro_batches=micro_batches)
        for event in base_events:
            yield event
            final = event
        assert isinstance(final, Result)
        base = BaseModel(state_to_cpu(final.learner.state_dict()), final.val.report)
        del event, final  # they hold the base's learner, with its gradients
    learner = build_learner(config, data, bases or {}).to(device)
    learner.micro_batches = _micro_batches(resume, micro_batches)
    load_masked_state_(learner, resume["learner"] if resume else base.state)
    if resume and resume["round"] and resume["round"] < len(history or ()):
        # state is saved before a round's end is evaluated: what the method then chose is chosen again
        _calibrated(config, learner, data, device, reference)
    layer = find_layer(learner.layers, config.layer)
    standings = history or [Standing(base.val.f1_mean, base.val.gap(config.stop.gap))]
    under_way = _under_way(resume) if resume and resume["round"] == len(standings) else None
    del base, resume  # the learner has its weights by now
    steps = prune_steps(
        learner,
        layer,
        score=score or partial(layer_scores, config, data, device),
        train=train_feed(config, config.fine_tune, data, device),
        val=eval_batches(place(data.splits["val"], device)),
        plan=prune_plan(config, layer),
        history=standings,
        seed=config.seed,
        calibrate=lambda live, outputs: config.method.calibrate_(live, outputs, reference),
        resume=under_way,
    )
    test = eval_batches(place(data.splits["test"], device))
    for step in steps:
        if isinstance(step, Round):
            started = time.perf_counter()
            outputs = evaluate(learner, test)
            seconds = step.seconds | {"test": time.perf_counter() - started}
            peak, micro_batch = peak_memory_mb(device), _micro_batch(learner, config.fine_tune)
            yield Result(step.index, learner, step.val, outputs, step, seconds, peak, step.means, micro_batch)
        else:
            yield Step(step.round, step.index, step.total, partial(_snapshot, learner, step, step.round))


def _calibrated(
    config: TrialConfig, learner: Learner, data: FairnessData, device: torch.device, reference: FairnessReport | None
) -> Evaluation:
    batches = eval_batches(place(data.splits["val"], device))
    outputs = evaluate(learner, batches)
    if config.method.calibrate_(learner, outputs, reference):
        outputs = evaluate(learner, batches)
    return outputs


def _micro_batches(resume: State | None, wanted: int) -> int:
    """A trial that was cut goes on as it was, so that an interruption changes no number."""
    return max(wanted, int(resume.get("micro_batches", 1))) if resume else wanted


def _micro_batch(learner: Learner, plan: TrainPlan) -> int | None:
    return -(-plan.batch_size // learner.micro_batches) if learner.micro_batches > 1 else None


def _snapshot(learner: Learner, epoch: Any, round_index: int) -> State:
    """What is needed to go on after this epoch. After a round's last one the optimizers are no longer."""
    running = {} if epoch.index == epoch.total else epoch.optimizers
    state: State = {
        "round": round_index,
        "epoch": epoch.index,
        "epochs": epoch.total,
        "means": dict(epoch.means),
        "micro_batches": learner.micro_batches,
        "learner": state_to_cpu(learner.state_dict()),
        "optimizers": {name: state_to_cpu(optimizer.state_dict()) for name, optimizer in running.items()},
    }
    if round_index:
        state |= {"channels": epoch.channels, "scores": epoch.scores.scores, "p": epoch.scores.p}
    return state


def _under_way(state: State) -> RoundUnderWay:
    return RoundUnderWay(
        index=state["round"],
        epoch=state["epoch"],
        channels=state["channels"],
        scores=ChannelScores(state["scores"], state.get("p")),
        optimizers=state["optimizers"],
        means=state["means"],
    )
