"""What a trial is put together from: its learner, its batches, its scores. No loop, no disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scp_ray.criteria.base import Criterion
from scp_ray.data.batches import FixedBatches, TrainFeed, place, scoring_batches
from scp_ray.errors import ResourceError
from scp_ray.loop.picking import score_channels
from scp_ray.loop.rounds import PrunePlan, kept_channels
from scp_ray.maths.balance import balanced_weights
from scp_ray.maths.masks import load_masked_state_
from scp_ray.methods.base import all_needs
from scp_ray.modes import drawing_from
from scp_ray.parts import ChannelScores, FairnessData, Learner, Network, PrunableLayer, Split, TrainPlan
from scp_ray.seeds import derive_seed

if TYPE_CHECKING:
    from scp_ray.config import TrialConfig

State = dict[str, Any]
BatchScores = Callable[..., Tensor]  # as Criterion.score, with the criterion as first argument


def build_learner(config: TrialConfig, data: FairnessData, bases: Mapping[str, State]) -> Learner:
    """The untrained learner of a trial, on the CPU, with the trained bases its method needs."""
    teachers: dict[str, Learner] = {}
    for method in all_needs(config.method):
        with drawing_from(derive_seed(config.seed, "method")):
            teacher = method.build(_backbone(config, data), data, teachers)
        load_masked_state_(teacher, bases[method.plugin_name])
        teachers[method.plugin_name] = teacher
    with drawing_from(derive_seed(config.seed, "method")):
        return config.method.build(_backbone(config, data), data, teachers)


def _backbone(config: TrialConfig, data: FairnessData) -> Callable[..., Network]:
    def build(outputs: int = data.num_classes) -> Network:
        seed = derive_seed(config.seed, "init")
        return config.backbone.build(outputs, image_size=config.dataset.image_size, seed=seed)

    return build


def prune_plan(config: TrialConfig, layer: PrunableLayer) -> PrunePlan:
    """How the loop prunes this trial."""
    k = config.criterion.count(config.pr_c, layer.channels)
    bias = config.mask == "full"
    return PrunePlan(k, config.rounds, config.fine_tune, config.stop, level=config.pick.level, mask_bias=bias)


def batches_of(criterion: Criterion, train: Split) -> FixedBatches:
    """What the criterion scores on."""
    return scoring_batches(
        train,
        criterion.batch_size,
        order=criterion.order,
        last_batch=criterion.last_batch,
        scope=criterion.scope,
    )


def layer_scores(
    config: TrialConfig,
    data: FairnessData,
    device: torch.device,
    learner: Learner,
    layer: PrunableLayer,
    *,
    score: BatchScores | None = None,
) -> ChannelScores:
    """Scores of a layer by the trial's criterion; in this process, unless ``score`` knows others.

    Raises ResourceError where memory does not take a scoring batch.
    """
    criterion = config.criterion.seeded(config.seed)
    train = place(data.splits["train"], device)
    batches = batches_of(criterion, train)
    attributes, rows = train.attributes[:, config.pick.positions(data.attribute_names)].cpu(), batches.order
    units = {name: code for code, name in enumerate(dict.fromkeys(train.unit))}
    try:
        return score_channels(
            criterion,
            learner,
            layer,
            batches,
            config.pick,
            label=train.label.cpu()[rows],
            attributes=attributes[rows],
            unit=torch.tensor([units[name] for name in train.unit])[rows],
            spare=(~kept_channels(learner, layer)).nonzero().flatten(),
            score=None if score is None else partial(score, criterion),
        )
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"{_does_not_fit(criterion)} {str(error).partition(chr(10))[0]}") from error


def _does_not_fit(criterion: Criterion) -> str:
    remedy = "or use a device with more memory, or to itself."
    if criterion.scope == "dataset":
        return f"the maps of one block of channels do not fit into memory. Set criterion.scope: batch, {remedy}"
    return (
        f"a scoring batch of {criterion.batch_size} images does not fit into memory. Its size is part of what "
        f"{criterion.plugin_name} measures, so it is not cut. Set a smaller criterion.batch_size, which makes it "
        f"another trial, {remedy}"
    )


def train_feed(config: TrialConfig, plan: TrainPlan, data: FairnessData, device: torch.device) -> TrainFeed:
    """Training batches of an epoch, drawn as the plan or the method wants them."""
    train = data.splits["train"]
    group = train.attributes[:, 0]
    if plan.sampler == "method":
        weights = config.method.sampler(train.label, group)
    else:
        weights = balanced_weights(train.label, group, plan.sampler)
    return TrainFeed(place(train, device), plan, weights)
