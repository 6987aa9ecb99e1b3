"""The SCP loop: score, prune, fine-tune, evaluate, again. A generator: who stops iterating stops the loop.

It has no callbacks, knows no tracker, and is never handed the test split. What scores, what feeds and what
calibrates is passed in, so that a sharded scorer or a device's own batches take their places unseen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from scp_ray.errors import BackboneError, ScoreError
from scp_ray.loop.evaluate import evaluate
from scp_ray.loop.fit import Feed, fit_epochs
from scp_ray.loop.picking import Scorer
from scp_ray.loop.stopping import Standing, StopRule, stop_reason
from scp_ray.maths.channels import lowest_channels, pick_significant
from scp_ray.maths.masks import mask_channels_, parameter_mask
from scp_ray.parts import Batch, ChannelScores, Epoch, Evaluation, Learner, PrunableLayer, PruneEpoch, Round, TrainPlan
from scp_ray.seeds import derive_seed

Calibrate = Callable[[Learner, Evaluation], bool]


@dataclass(frozen=True)
class PrunePlan:
    """How the loop prunes."""

    k: int  # channels per round; 0: none (the control that only trains on)
    rounds: int
    fine_tune: TrainPlan
    stop: StopRule = field(default_factory=StopRule)
    level: float | None = None  # false discovery rate: only channels that are significant at it go
    mask_bias: bool = True  # False keeps a pruned convolution's bias, as the released code does


@dataclass(frozen=True)
class RoundUnderWay:
    """Where an interrupted loop stands; the learner holds the weights and masks that go with it."""

    index: int
    epoch: int  # epochs of fine-tuning done
    channels: Tensor
    scores: ChannelScores
    optimizers: Mapping[str, Any]  # state dicts
    means: dict[str, float] = field(default_factory=dict)


def prune_rounds(
    learner: Learner,
    layer: PrunableLayer,
    *,
    score: Scorer,
    train: Feed,
    val: Iterable[Batch],
    plan: PrunePlan,
    base: Evaluation,
    seed: int = 0,
    calibrate: Calibrate | None = None,
) -> Iterator[Round]:
    """Prune ``learner`` in place, yielding each round as it ends. ``prune_steps`` says what the arguments are."""
    steps = prune_steps(
        learner,
        layer,
        score=score,
        train=train,
        val=val,
        plan=plan,
        history=[Standing.of(base, plan.stop)],
        seed=seed,
        calibrate=calibrate,
    )
    return (step for step in steps if isinstance(step, Round))


def prune_steps(
    learner: Learner,
    layer: PrunableLayer,
    *,
    score: Scorer,
    train: Feed,
    val: Iterable[Batch],
    plan: PrunePlan,
    history: Sequence[Standing],
    seed: int = 0,
    calibrate: Calibrate | None = None,
    resume: RoundUnderWay | None = None,
) -> Iterator[PruneEpoch | Round]:
    """As ``prune_rounds``, with every epoch on the way, so that a caller can save the state in between.

    Args:
        learner: trained; pruned in place.
        layer: one of ``learner.layers``.
        score: scores of the layer, low = prune first; called once a round, on the model as it then is.
        train: batches of an epoch, by its seed and number.
        val: validation batches, iterated once a round.
        plan: how many channels, rounds and epochs, and when to stop.
        history: the standings of the rounds that are over, round 0 (the unpruned model) first.
        seed: all streams of the loop come from it.
        calibrate: sets what the method chooses on validation; True asks for a second evaluation.
        resume: the round under way, where the loop was interrupted.

    Every epoch event reuses the learner's live tensors: copy what is to be kept.
    """
    standings = list(history)
    for index in range(len(standings), plan.rounds + 1):
        started = time.perf_counter()
        if resume is not None and resume.index == index:
            done = resume
        else:
            done = _prune(learner, layer, score, plan, index)
            yield _epoch(Epoch(0, _epochs(plan, done), {}, {}), done)
        pruned, means = time.perf_counter(), done.means
        for epoch in fit_epochs(
            learner,
            train,
            replace(plan.fine_tune, epochs=_epochs(plan, done)),
            seed=derive_seed(seed, "fine_tune", index),
            start=done.epoch,
            optimizers=done.optimizers,
        ):
            means = epoch.means
            yield _epoch(epoch, done)
        fitted = time.perf_counter()
        outputs = evaluate(learner, val)
        if calibrate is not None and calibrate(learner, outputs):
            outputs = evaluate(learner, val)
        standings.append(Standing.of(outputs, plan.stop))
        reason = stop_reason(standings[0], standings[-2], standings[-1], plan.stop)
        keep = kept_channels(learner, layer)
        exhausted = plan.k > 0 and int(keep.sum()) <= plan.k and index < plan.rounds
        if nothing := plan.k > 0 and len(done.channels) == 0:
            reason = f"significance: no channel separates the groups beyond chance at q {plan.level:g}; none was pruned"
        stopped = exhausted or nothing or (bool(reason) and plan.stop.enforce)
        yield Round(
            index=index,
            channels=tuple(done.channels.tolist()),
            keep=keep,
            scores=done.scores,
            val=outputs,
            last=stopped or index == plan.rounds,
            stopped=stopped,
            stop_reason=reason
            or (f"channels: {int(keep.sum())} are left, too few to prune {plan.k} more" if exhausted else ""),
            means=means,
            seconds={
                "score": pruned - started,
                "fit": fitted - pruned,
                "evaluate": time.perf_counter() - fitted,
            },
        )
        if stopped:
            return


def _prune(learner: Learner, layer: PrunableLayer, score: Scorer, plan: PrunePlan, index: int) -> RoundUnderWay:
    if plan.k == 0:
        none = torch.empty(0, dtype=torch.long)
        return RoundUnderWay(index, 0, none, ChannelScores(torch.full((layer.channels,), float("nan"))), {})
    pruned = (~kept_channels(learner, layer)).nonzero().flatten()
    if layer.channels - len(pruned) <= plan.k:
        raise BackboneError(
            f"layer {layer.name} has {layer.channels - len(pruned)} of {layer.channels} channels left, and pruning "
            f"{plan.k} would leave none. Lower pr_c or the number of rounds."
        )
    given = score(learner, layer)
    scores = given if isinstance(given, ChannelScores) else ChannelScores(given)
    if plan.level is None:
        channels = lowest_channels(scores.scores, plan.k, spare=pruned)
    elif scores.p is None:
        raise ScoreError("the loop is to prune significant channels only, and the scorer gives no p-values.")
    else:
        channels = pick_significant(scores.scores, scores.p, plan.k, plan.level, spare=pruned)
    apply_channel_mask_(learner, layer, channels, bias=plan.mask_bias)
    return RoundUnderWay(index, 0, channels, scores, {})


def _epochs(plan: PrunePlan, done: RoundUnderWay) -> int:
    """None where nothing was significant: what is not pruned is not trained on."""
    return 0 if plan.k > 0 and len(done.channels) == 0 else plan.fine_tune.epochs


def _epoch(epoch: Epoch, done: RoundUnderWay) -> PruneEpoch:
    return PruneEpoch(
        index=epoch.index,
        total=epoch.total,
        means=epoch.means,
        optimizers=epoch.optimizers,
        round=done.index,
        channels=done.channels,
        scores=done.scores,
    )


def apply_channel_mask_(
    learner: Learner, layer: PrunableLayer, channels: Tensor | Sequence[int], *, bias: bool = True
) -> None:
    """Silence channels of a layer for good, and what goes with them.

    That is: weight rows, bias, the affine part of the norms that the layer alone feeds, and the same channels of the
    depthwise convolutions that it alone feeds. ``bias`` False keeps the biases of the convolutions.
    """
    network = learner.network
    norms = [network.get_submodule(name) for name in layer.norms]
    mask_channels_(network.get_submodule(layer.name), norms, channels, bias=bias)
    for name in layer.followers:
        mask_channels_(network.get_submodule(name), [], channels, bias=bias)


def kept_channels(learner: Learner, layer: PrunableLayer) -> Tensor:
    """(C,) bool on the CPU: the channels that are not masked."""
    mask = parameter_mask(learner.network.get_submodule(layer.name), "weight")
    if mask is None:
        return torch.ones(layer.channels, dtype=torch.bool)
    return mask.flatten(1).any(1).cpu()
