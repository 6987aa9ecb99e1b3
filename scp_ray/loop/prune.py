"""Prune any torch CNN for fairness, without Ray, without a ledger, on a copy."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from scp_ray.backbones.layers import Layers, find_layer, trace_layers
from scp_ray.criteria.base import Criterion, criteria
from scp_ray.errors import ConfigError, DataError
from scp_ray.loop.evaluate import evaluate
from scp_ray.loop.loaders import WANTED, Batches, Loader, shown
from scp_ray.loop.rounds import PrunePlan, prune_rounds
from scp_ray.loop.stopping import Standing, StopRule, check_select, select_round, stop_reasons
from scp_ray.maths.fate import fate
from scp_ray.maths.masks import load_masked_state_
from scp_ray.parts import Evaluation, Learner, PrunableLayer, Round, TrainPlan, state_to_cpu


@dataclass(frozen=True)
class Pruned:
    """What ``prune_for_fairness`` returns."""

    model: nn.Module  # a copy, as the selected round left it; pruned channels are masked
    selected: int  # which round that is; 0 = nothing that was tried is better than the model as it was
    base: Evaluation  # the model as it was, on validation
    rounds: tuple[Round, ...]
    fates: tuple[float, ...]  # validation FATE of the stop rule's gap by round, round 0 first


def prune_for_fairness(
    model: nn.Module,
    train: Loader,
    val: Loader,
    *,
    layer: int | str = -1,
    criterion: str | Criterion = "snnl",
    pr_c: float = 0.02,
    rounds: int = 3,
    fine_tune: TrainPlan | None = None,
    stop: StopRule | None = None,
    select: str = "best_val_fate",
    seed: int = 0,
) -> Pruned:
    """Score, prune and fine-tune a copy of ``model`` round after round; ``model`` itself is not changed.

    Args:
        model: any network from images to logits (N, K), on any device.
        train, val: DataLoaders, or anything that can be iterated again and again, of (image, label, group) with
            group codes 0 and 1. Scores are taken over ``train.dataset`` in a fixed order where there is one.
        layer: 1..L or -L..-1 in forward order over the ungrouped convolutions on feature maps (no
            squeeze-and-excitation gates), or a module name.
        criterion: a name (``scp-ray ls criteria``) or a criterion.
        pr_c: share of the layer's channels pruned per round.
        rounds: at most this many.
        fine_tune: how to train after each pruning; 5 epochs of SGD at 0.001 unless given. Its batch size and
            augmentation do not apply: the loader decides them.
        stop: when to stop before; by default a stop is only recorded.
        select: which round's model is returned: best_val_fate, round:n or last.
        seed: of the loop's random streams.

    Raises UnknownNameError for a layer or criterion that does not exist, ConfigError for what cannot be asked (a frozen
    model, a round after the last), DataError for loaders that give nothing or something else, BackboneError for images
    that the model cannot take.
    """
    stop, fine_tune = stop or StopRule(), fine_tune or TrainPlan(epochs=5, lr=0.001)
    check_select(select, rounds)
    _check_trainable(model, fine_tune, rounds)
    device = next(model.parameters()).device
    trained, judged = Batches(train, "train", device), Batches(val, "val", device)
    first = next(iter(judged), None)
    if first is None:
        raise DataError(f"val gives no batch; wanted are batches of {WANTED}.")
    network = copy.deepcopy(model)
    learner = Learner(network, _layers(network, first.image))
    found = find_layer(learner.layers, layer)
    chosen = criteria.get(criterion)() if isinstance(criterion, str) else criterion
    k = chosen.count(pr_c, found.channels)
    if k * rounds >= found.channels:
        raise ConfigError(f"{rounds} rounds of {k} channels would leave none of layer {found.name}'s {found.channels}.")
    base = evaluate(learner, judged)
    passes = prune_rounds(
        learner,
        found,
        score=partial(_score, chosen.seeded(seed), trained),
        train=lambda seed, epoch: trained,
        val=judged,
        plan=PrunePlan(k, rounds, fine_tune, stop),
        base=base,
        seed=seed,
    )
    state, results, fates = state_to_cpu(learner.state_dict()), [], [_fate(base, base, stop)]
    standings = [Standing.of(base, stop)]
    for result in passes:
        results.append(result)
        fates.append(_fate(result.val, base, stop))
        standings.append(Standing.of(result.val, stop))
        if select_round(select, fates, stop_reasons(standings, stop)) == result.index:
            state = state_to_cpu(learner.state_dict())
    pruned = Learner(copy.deepcopy(model), learner.layers)
    load_masked_state_(pruned, state)
    return Pruned(
        pruned.network, select_round(select, fates, stop_reasons(standings, stop)), base, tuple(results), tuple(fates)
    )


def _fate(outputs: Evaluation, base: Evaluation, stop: StopRule) -> float:
    return fate(
        outputs.report.f1_mean,
        outputs.report.gap(stop.gap),
        f1_baseline=base.report.f1_mean,
        gap_baseline=base.report.gap(stop.gap),
    )


def _check_trainable(model: nn.Module, plan: TrainPlan, rounds: int) -> None:
    parameters = list(model.parameters())
    if not parameters:
        raise ConfigError(f"model: {type(model).__name__} has no parameters, so there is nothing to prune.")
    if rounds and plan.epochs and not any(parameter.requires_grad for parameter in parameters):
        raise ConfigError(
            f"model: no parameter of {type(model).__name__} requires a gradient, so it cannot be fine-tuned. "
            "Call model.requires_grad_(True) before, or give fine_tune=TrainPlan(epochs=0)."
        )


def _layers(network: nn.Module, image: Tensor) -> Layers:
    how = ", e.g. greyscale as three channels: image.expand(-1, 3, -1, -1)" if image.shape[1] == 1 else ""
    return trace_layers(
        network, image[:1], came=shown(image), advice=f"Let the loaders give what the model takes{how}."
    )


def _score(criterion: Criterion, train: Batches, learner: Learner, layer: PrunableLayer) -> Tensor:
    return criterion.score(learner, layer, train.for_scores(criterion))
