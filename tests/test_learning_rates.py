"""What an optimizer's learning rate is in which epoch: the plan's schedule is the network's, not an adversary's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from planted import as_batch, feed_of, fresh, planted_data, same_state

from scp_ray.loop.fit import fit_epochs
from scp_ray.maths.masks import load_masked_state_
from scp_ray.methods.adv_conf import AdvConf
from scp_ray.methods.adv_ref import AdvRef
from scp_ray.methods.base import Method
from scp_ray.methods.vanilla import Vanilla
from scp_ray.parts import Batch, TrainPlan, state_to_cpu

DATA = planted_data()
BOTH_GROUPS = as_batch(DATA.splits["train"], slice(8))
PLAYERS = [AdvConf(), AdvConf(schedule="epoch"), AdvRef(), AdvRef(projection=True)]


def eight_images(seed: int, epoch: int) -> Iterator[Batch]:
    yield BOTH_GROUPS


def rates_at(method: Method, plan: TrainPlan, *epochs: int) -> dict[str, list[float]]:
    """Of each optimizer, in the epochs of these numbers; the first epoch is 1."""
    found: dict[str, list[float]] = {}
    for epoch in fit_epochs(fresh(method, DATA), eight_images, plan, seed=0):
        if epoch.index in epochs:
            for name, optimizer in epoch.optimizers.items():
                found.setdefault(name, []).extend(group["lr"] for group in optimizer.param_groups)
    return found


def test_the_networks_falls_to_a_tenth_after_every_hundred_epochs() -> None:
    assert rates_at(Vanilla(), TrainPlan(epochs=201), 1, 100, 101, 201) == {
        "sgd": pytest.approx([0.01, 0.01, 0.001, 0.0001])
    }


@pytest.mark.parametrize("method", PLAYERS, ids=str)
def test_the_adversarys_stays(method: Method) -> None:
    """methods.md, section 7: SGD of the recipe for the network, Adam at 1e-3 for the head, no other change."""
    assert rates_at(method, TrainPlan(epochs=201), 1, 101, 201) == {
        "sgd": pytest.approx([0.01, 0.001, 0.0001]),
        "adversary": [0.001, 0.001, 0.001],
    }


def test_a_checkpoint_of_before_goes_on_to_the_same_bits() -> None:
    """Such ones name an initial rate of the head's optimizer too."""
    plan = TrainPlan(epochs=2, lr=0.05)
    whole, first, second = (fresh(AdvConf(), DATA) for _ in range(3))
    for _ in fit_epochs(whole, feed_of(DATA), plan, seed=1):
        pass
    epoch = next(fit_epochs(first, feed_of(DATA), plan, seed=1))
    states = {name: state_to_cpu(optimizer.state_dict()) for name, optimizer in epoch.optimizers.items()}
    states["adversary"]["param_groups"][0]["initial_lr"] = 0.001
    load_masked_state_(second, state_to_cpu(first.state_dict()))
    for _ in fit_epochs(second, feed_of(DATA), plan, seed=1, start=1, optimizers=states):
        pass
    same_state(whole.state_dict(), second.state_dict())
