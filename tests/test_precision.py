"""Training with the network's products in bfloat16: what is rounded, what is not, and that nothing of it stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from every_method import METHODS, config, train
from torch import Tensor, nn

from scp_ray.backbones.base import backbones
from scp_ray.config import TrialConfig
from scp_ray.config.identity import resolve
from scp_ray.errors import ConfigError
from scp_ray.methods import hsic
from scp_ray.modes import working_in
from scp_ray.parts import TrainPlan

BEFORE = "78ed78ce61b15a41"  # the id of the small vanilla trial when plans had no precision


def in_bf16(name: str, **options: Any) -> Any:
    asked = config(name, **options)
    plans = {part: replace(getattr(asked, part), precision="bf16") for part in ("train", "fine_tune")}
    return replace(asked, **plans)


@pytest.fixture
def network() -> nn.Module:
    return backbones.get("tiny")().build(4, image_size=32, seed=0).module


def test_products_are_rounded_and_what_goes_in_and_out_is_not(network: nn.Module) -> None:
    """A float has 24 bits of mantissa, a bfloat16 8: answers differ by some 2^-9 of their size, and not by nothing."""
    image, seen = torch.rand(8, 3, 32, 32), list[Tensor]()
    convolution = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
    handle = convolution.register_forward_hook(lambda part, given, out: seen.append(out))
    exact = network(image)
    with working_in("bf16", network):
        rounded = network(image)
        rounded.sum().backward()
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
        assert {parameter.grad.dtype for parameter in network.parameters()} == {torch.float32}
    handle.remove()
    assert [out.dtype for out in seen] == [torch.float32, torch.bfloat16]
    assert seen[1].is_contiguous(memory_format=torch.channels_last)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.float32)
    apart = float((exact - rounded).detach().norm() / exact.detach().norm())
    assert 1e-4 < apart < 5e-2


def test_nothing_of_it_stays(network: nn.Module) -> None:
    image = torch.rand(2, 3, 32, 32)
    before = network(image)
    with pytest.raises(ZeroDivisionError), working_in("bf16", network):
        _ = 1 / 0
    assert all(parameter.is_contiguous() for parameter in network.parameters())
    assert torch.equal(network(image), before)
    with working_in("float32", network):
        assert torch.equal(network(image), before)


def test_trials_of_before_keep_their_ids_and_bf16_is_another() -> None:
    asked = config("vanilla")
    plain, fast = resolve(asked), resolve(replace(asked, fine_tune=replace(asked.fine_tune, precision="bf16")))
    assert plain.trial_id == BEFORE
    assert fast.trial_id != plain.trial_id
    assert fast.base_id == plain.base_id


@pytest.mark.parametrize("name", [name for name in METHODS if name != "me-fairprune"])
def test_every_method_trains_in_it(name: str) -> None:
    asked = in_bf16(name, epochs=1)
    result, *_ = train(asked)
    assert torch.bfloat16 not in {value.dtype for value in result.learner.state_dict().values()}
    assert all(parameter.is_contiguous() for parameter in result.learner.parameters())
    exact, *_ = train(config(name, epochs=1))
    apart = [
        not torch.equal(a, b) for a, b in zip(result.learner.parameters(), exact.learner.parameters(), strict=True)
    ]
    assert any(apart), "it has been in use"


def test_a_loss_of_features_is_made_of_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """What HSIC is given: its kernels take differences of what is nearly equal."""
    given = list[torch.dtype]()
    whole = hsic.with_features
    monkeypatch.setattr(hsic, "with_features", lambda *a: [given.append(x.dtype) or x for x in whole(*a)])
    train(in_bf16("hsic", epochs=1))
    assert set(given) == {torch.float32}


@pytest.mark.slow  # a CPU does bfloat16 slowly
def test_it_learns_as_in_floats() -> None:
    """Four shapes, equally visible: chance is 0.25, and 400 images teach either way."""
    easy = {"bias": 0.0, "train": 400, "val": 200, "test": 16}
    reached = [
        train(asked)[0].val.report.balanced_accuracy
        for asked in (config("vanilla", epochs=5, dataset=easy), in_bf16("vanilla", epochs=5, dataset=easy))
    ]
    assert min(reached) > 0.4
    assert abs(reached[0] - reached[1]) < 0.2


def test_plans_refuse_another_precision() -> None:
    with pytest.raises(ConfigError, match=r"precision.*float32.*bf16"):
        TrialConfig.from_dict(config("vanilla").as_dict() | {"train": {"precision": "fp16"}})
    assert TrainPlan().precision == "float32"
