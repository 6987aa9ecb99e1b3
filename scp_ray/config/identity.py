"""What makes two trials the same: whatever changes the numbers, and nothing else.

In it: the canonical table, image size and decode version, backbone and weights digest, method, criterion, layer,
k, the training plans, an enforced stop rule and the seed. Not in it: paths, times, resources, trackers, profile
names, the number of rounds (more rounds continue the same trial), a stop rule that is only recorded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from scp_ray.backbones.base import Backbone
from scp_ray.backbones.layers import find_layer
from scp_ray.config.trial import TrialConfig
from scp_ray.criteria.base import Criterion
from scp_ray.data.base import DataSet
from scp_ray.errors import ConfigError
from scp_ray.methods.base import Method, all_needs
from scp_ray.methods.vanilla import Vanilla
from scp_ray.parts import Network, PrunableLayer, TrainPlan
from scp_ray.registry import spec_of

# Fields that came later, with the value that means what was done before: such trials keep their ids.
AS_BEFORE = {"sampler": "method", "loss": "native", "precision": "float32"}


@dataclass(frozen=True)
class ResolvedTrial:
    """A trial with its layer found, its k counted and its ids."""

    config: TrialConfig
    layer: PrunableLayer
    k: int
    trial_id: str
    base_id: str
    vanilla_id: str  # the base model that FATE "_vanilla" is measured against

    def bases(self) -> dict[str, TrialConfig]:
        """Every base model that has to be there before the trial runs, by id, each after those it needs itself."""
        found: dict[str, TrialConfig] = {}
        for method in (Vanilla(), *all_needs(self.config.method), self.config.method):
            config = with_method(self.config, method)
            found.setdefault(base_id(config), config)
        return found


def resolve(config: TrialConfig) -> ResolvedTrial:
    """Find the layer, count k and name the trial.

    Raises what ``check`` raises, and whatever the data set or the weights have to say.
    """
    layer, k = check(config)
    return ResolvedTrial(
        config=config,
        layer=layer,
        k=k,
        trial_id=_digest(trial_identity(config, layer, k)),
        base_id=base_id(config),
        vanilla_id=base_id(with_method(config, Vanilla())),
    )


def check(config: TrialConfig) -> tuple[PrunableLayer, int]:
    """The layer and k of a trial; neither its data nor its weights are read.

    Raises UnknownNameError for a layer that does not exist (all are listed), and ConfigError where the method or the
    picking does not go with the rest, or the rounds would prune every channel.
    """
    network = outline(config.backbone, config.dataset.image_size)
    layer = find_layer(network.layers, config.layer)
    for method in (*all_needs(config.method), config.method):
        method.check(network, config.dataset.plugin_name, config.dataset.privileged_code, config.dataset.image_size)
    config.pick.check(config.criterion, config.dataset.attribute_names)
    k = config.criterion.count(config.pr_c, layer.channels)
    if k * config.rounds >= layer.channels:
        raise ConfigError(
            f"pr_c: {config.pr_c} prunes {k} of {layer.channels} channels of layer {layer.name} a round, so "
            f"{config.rounds} rounds would leave none. Allowed are at most {(layer.channels - 1) // k} rounds."
        )
    return layer, k


def base_id(config: TrialConfig) -> str:
    """Sixteen hex digits that name the base model a trial starts from."""
    return _digest(base_identity(config))


def with_method(config: TrialConfig, method: Method) -> TrialConfig:
    """The same trial with another base method."""
    return replace(config, method=method)


def base_identity(config: TrialConfig) -> dict[str, Any]:
    """What decides a base model."""
    backbone = spec_of(config.backbone) | {"weights": config.backbone.weights_digest()}
    return {
        "data": data_identity(config.dataset),
        "backbone": backbone,
        "method": _method_identity(config.method),
        "train": _plan_identity(config.train),
        "seed": config.seed,
    }


def trial_identity(config: TrialConfig, layer: PrunableLayer, k: int) -> dict[str, Any]:
    """What decides a trial: its base, and how it is pruned and fine-tuned."""
    identity = base_identity(config) | {
        "criterion": _criterion_identity(config.criterion),
        "layer": layer.name if k else None,  # the control without pruning has no layer
        "k": k,
        "mask": config.mask,
        "fine_tune": _plan_identity(config.fine_tune, own_loss=config.method.own_loss),
    }
    if picked := config.pick.identity(config.dataset.attribute_names):
        identity |= {"pick": picked}
    return identity | ({"stop": asdict(config.stop)} if config.stop.enforce else {})


def scores_id(config: TrialConfig, layer: PrunableLayer) -> str:
    """Names the first scores of a base model: all arms with this criterion and layer share them."""
    picked = config.pick.identity(config.dataset.attribute_names)
    return _digest(
        {"criterion": _criterion_identity(config.criterion.seeded(config.seed)), "layer": layer.name}
        | ({"pick": picked} if picked else {})
    )


def _plan_identity(plan: TrainPlan, *, own_loss: bool = True) -> dict[str, Any]:
    fields = asdict(plan if own_loss else replace(plan, loss="native"))
    return {key: value for key, value in fields.items() if AS_BEFORE.get(key) != value}


def _criterion_identity(criterion: Criterion) -> dict[str, Any]:
    """Where all samples are one batch, how many go forward at a time decides nothing."""
    batching = {"batch_size", "order", "last_batch"} if criterion.scope == "dataset" else set()
    return {key: value for key, value in spec_of(criterion).items() if key not in batching}


def _method_identity(method: Method) -> dict[str, Any]:
    return spec_of(method) | {"needs": [_method_identity(needed) for needed in method.needs]}


@lru_cache
def data_identity(data_set: DataSet) -> dict[str, str | int]:
    """What decides a data set, read once a process."""
    return data_set.identity()


@lru_cache
def outline(backbone: Backbone, image_size: int) -> Network:
    """The backbone's layers, without weights; they do not depend on the number of classes."""
    return backbone.outline(2, image_size=image_size)


def _digest(identity: dict[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
