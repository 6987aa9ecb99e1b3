"""Every base method with numbers that it learns by, on every backbone."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from scp_ray.config import TrialConfig
from scp_ray.methods.base import all_needs, methods
from scp_ray.parts import state_to_cpu
from scp_ray.trial import Result, Step, train_base

METHODS = [name for name in methods.names() if "test" not in name]
UNSTRUCTURED = ("fairprune", "obd", "me-fairprune")
SMALL: dict[str, Any] = {"name": "synthetic", "image_size": 64, "train": 96, "val": 48, "test": 48}
PLAN: dict[str, Any] = {"batch_size": 16, "augment": "flips"}
# with learning rates that vanilla learns at from random weights: at 0.02 it diverges on VGG-11-BN within an epoch
BACKBONES = {"tiny": (64, 0.02), "resnet18": (96, 0.01), "vgg11-bn": (64, 0.003)}


def method(name: str, backbone: str = "tiny") -> Any:
    """Exits with a small map between their convolutions: what costs most says nothing here. And the exact curvature:
    one drawn label an image is too few for so few images of a network so sure of itself. Nothing bounds what a
    reversed gradient climbs: at full strength the 4,096 features of VGG-11-BN grow until the loss overflows.
    """
    if name == "adv-ref" and backbone == "vgg11-bn":
        return {"name": name, "strength": 0.1}
    exits, sure = {"name": "me", "pooled": 8}, {"name": "fairprune", "draws": "exact"}
    return {"me": exits, "fairprune": sure, "me-fairprune": [exits, sure]}.get(name, name)


def config(name: str, backbone: str = "tiny", epochs: int = 2, **options: Any) -> TrialConfig:
    size, lr = BACKBONES[backbone]
    if name.startswith("me") and backbone != "tiny":
        # 64 px leave 2 x 2 of an image after four halvings, and an exit wants 3 x 3; and the exits' convolutions,
        # linear in the wide maps of large networks, diverge at 0.01 from random weights
        size, lr = 96, min(lr, 0.005)
    return TrialConfig.from_dict(
        {
            "dataset": SMALL | {"image_size": size} | options.pop("dataset", {}),
            "backbone": backbone,
            "method": method(name, backbone),
            "pr_c": 0.05,
            "rounds": 3,
            "train": PLAN | {"epochs": epochs, "lr": lr},
            "fine_tune": PLAN | {"epochs": 1, "lr": 0.005},
            **options,
        }
    )


def train(asked: TrialConfig, **more: Any) -> tuple[Result, dict[str, Any], list[Step]]:
    """The base model with those it needs, trained one after the other."""
    states: dict[str, Any] = {}
    for needed in all_needs(asked.method):
        states[needed.plugin_name] = state_to_cpu(finished(replace(asked, method=needed), states).learner.state_dict())
    events = list(train_base(asked, bases=states, **more))
    assert isinstance(events[-1], Result)
    return events[-1], states, [event for event in events if isinstance(event, Step)]


def finished(asked: TrialConfig, states: dict[str, Any]) -> Result:
    *_, last = train_base(asked, bases=states)
    assert isinstance(last, Result)
    return last


@lru_cache
def trained(name: str, backbone: str = "tiny") -> tuple[TrialConfig, Result, dict[str, Any], list[Step]]:
    asked = config(name, backbone)
    return (asked, *train(asked))
