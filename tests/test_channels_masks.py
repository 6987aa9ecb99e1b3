from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD

from scp_ray.maths.channels import channels_per_round, lowest_channels
from scp_ray.maths.masks import load_masked_state_, mask_channels_, mask_parameter_, parameter_mask


@pytest.mark.parametrize(
    ("pr_c", "channels", "expected"),
    [
        *((0.02, width, k) for width, k in [(64, 1), (128, 3), *[(256, 5)] * 2, *[(512, 10)] * 4]),
        (0.145, 100, 15),  # 14.5 goes up, though 0.145 * 100 is 14.499999999999998 in binary
        (0.285, 100, 29),  # 28.5, in binary 28.499999999999996
        (0.025, 100, 3),  # 2.5 goes up; Python's round() gives 2
        (0.05, 30, 2),  # 1.5
        (0.02, 25, 1),  # 0.5
        (0.02, 24, 1),  # 0.48: never fewer than one
        (0.0001, 8, 1),
        (0.024, 100, 2),
        (0.5, 7, 4),  # 3.5
    ],
)
def test_channels_per_round(pr_c, channels, expected):
    """The VGG row is methods.md 11.2: 1.28, 2.56, 5.12 and 10.24, rounded."""
    assert channels_per_round(pr_c, channels) == expected


@pytest.mark.parametrize("pr_c", [0, 1, 1.5, -0.02, math.nan])
def test_channels_per_round_refuses(pr_c):
    with pytest.raises(ValueError, match="0 < pr_c < 1"):
        channels_per_round(pr_c, 64)


@pytest.mark.parametrize(
    ("scores", "k", "spare", "expected"),
    [
        ([3.0, 1.0, 2.0, 0.0], 2, [], [1, 3]),
        ([1.0] * 40, 3, [], [0, 1, 2]),
        ([2.0, 1.0, 1.0, 1.0, 0.0], 3, [], [1, 2, 4]),
        ([0.0, 1.0, 0.0, 1.0, 1.0], 2, [0, 2], [1, 3]),
        ([0.0, 1.0, 0.0, 1.0, 1.0], 2, torch.tensor([2]), [0, 1]),
        ([-1.0, math.inf, -math.inf], 2, [], [0, 2]),
        ([math.nan, 2.0, 1.0], 1, [0], [2]),
        ([math.nan, 2.0, 1.0], 2, [0], [1, 2]),
        ([1.0, 2.0], 0, [], []),
    ],
)
def test_lowest_channels(scores, k, spare, expected):
    assert lowest_channels(torch.tensor(scores), k, spare=spare).tolist() == expected


@pytest.mark.parametrize(
    ("scores", "k", "spare", "words"),
    [
        ([1.0, 2.0, 3.0], 4, [], "3 of 3 are left"),
        ([1.0, 2.0, 3.0], 2, [0, 1], "1 of 3 are left"),
        ([1.0, 2.0, 3.0], -1, [], "cannot choose -1"),
        ([1.0, math.nan, 3.0, math.nan], 1, [3], r"\[1\] are NaN"),
    ],
)
def test_lowest_channels_refuses(scores, k, spare, words):
    with pytest.raises(ValueError, match=words):
        lowest_channels(torch.tensor(scores), k, spare=spare)


def network(*, seed=0, norm=True):
    """Conv (6 channels, with bias), batch norm, ReLU, conv, head; "0" and "1" are the ones to be masked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU()]
        net = nn.Sequential(*first, nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        if norm:
            nn.init.uniform_(net[1].bias, 1, 2)  # no channel is silent by itself
            nn.init.uniform_(net[1].running_mean, 0.1, 0.3)  # of zero it would not show
    return net


def images(*, seed=0, count=8):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def sgd(net):
    return SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2)


def train_(net, optimizer, *, steps=10):
    net.train()
    label = torch.arange(8) % 3
    for step in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(net(images(seed=step)), label).backward()
        optimizer.step()


def first_maps(net, *, train):
    """Output of conv, norm and ReLU."""
    with torch.no_grad():
        return net.train(train)[:3](images(seed=99))


def only_these_are_silent(net, channels, *, train):
    silent = (first_maps(net, train=train) == 0).flatten(2).all(2).all(0)
    return silent.nonzero().flatten().tolist() == channels


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("momentum_first", [False, True])
def test_masked_channels_stay_exactly_zero_through_training(momentum_first, norm, train):
    """Momentum from before the mask, nesterov and weight decay all move a weight that was merely set to 0."""
    net = network(norm=norm)
    optimizer = sgd(net)
    if momentum_first:
        train_(net, optimizer, steps=3)
        assert all(state["momentum_buffer"].any() for state in optimizer.state.values())
    mask_channels_(net[0], [net[1]] if norm else [], [1, 4])
    if not momentum_first:
        optimizer = sgd(net)
    assert only_these_are_silent(net, [1, 4], train=train)
    train_(net, optimizer)
    assert only_these_are_silent(net, [1, 4], train=train)
    for parameter in (net[0].weight, net[0].bias, *((net[1].weight, net[1].bias) if norm else ())):
        assert not parameter[[1, 4]].any()
        assert parameter[[0, 2, 3, 5]].flatten(1 if parameter.ndim > 1 else 0).any()


def test_kept_bias_is_the_channels_constant_output():
    """As released: weight rows alone. The bias goes on learning, so the constant moves."""
    net = network(norm=False)
    mask_channels_(net[0], [], torch.tensor([2]), bias=False)
    constants = [net[0].bias[2].item()]
    optimizer = sgd(net)
    for _ in range(2):
        maps = net[0](images())[:, 2]
        assert torch.equal(maps, torch.full_like(maps, constants[-1]))
        with torch.no_grad():
            net[0].bias[2] = 0.5  # so that ReLU lets its gradient through
        train_(net, optimizer)
        constants.append(net[0].bias[2].item())
    assert constants[1] not in (constants[0], 0.5)


def test_two_masks_are_joined_by_and():
    net = network()
    mask_channels_(net[0], [net[1]], [0, 1])
    mask_channels_(net[0], [net[1]], [1, 4])
    assert only_these_are_silent(net, [0, 1, 4], train=False)
    for module in (net[0], net[1]):
        for name in ("weight", "bias"):
            kept = parameter_mask(module, name).reshape(6, -1)
            assert kept.all(1).tolist() == kept.any(1).tolist() == [False, False, True, True, False, True]


def test_unstructured_and_channel_masks_are_joined():
    """A mask of single weights, then one of rows: what either takes stays 0."""
    layer = nn.Linear(2, 3)
    mask_parameter_(layer, "weight", torch.tensor([[True, False], [True, True], [True, False]]))
    mask_parameter_(layer, "weight", torch.tensor([[False], [True], [True]]))
    assert parameter_mask(layer, "weight").tolist() == [[False, False], [True, True], [True, False]]
    assert (layer.weight != 0).tolist() == [[False, False], [True, True], [True, False]]
    assert parameter_mask(layer, "bias") is None


def test_gradient_of_masked_weights_is_exactly_zero():
    net = network()
    mask_channels_(net[0], [net[1]], [3])
    functional.cross_entropy(net(images()), torch.arange(8) % 3).backward()
    for module in (net[0], net[1]):
        for name in ("weight", "bias"):
            gradient = module.parametrizations[name].original.grad
            assert not gradient[3].any()
    weight = net[0].parametrizations.weight.original.grad
    assert weight[[0, 1, 2, 4, 5]].flatten(1).any(1).all()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_broken_weights_under_the_mask_do_not_show(broken):
    net = network()
    mask_channels_(net[0], [net[1]], [1])
    with torch.no_grad():
        for module in (net[0], net[1]):
            for name in ("weight", "bias"):
                module.parametrizations[name].original[1] = broken
    assert first_maps(net, train=False).isfinite().all()
    assert only_these_are_silent(net, [1], train=False)
    functional.cross_entropy(net(images()), torch.arange(8) % 3).backward()
    assert not net[0].parametrizations.weight.original.grad[1].any()


def test_a_mask_clears_a_weight_that_is_already_nan():
    net = network(norm=False)
    with torch.no_grad():
        net[0].weight[1] = math.nan
    mask_channels_(net[0], [], [1])
    assert only_these_are_silent(net, [1], train=False)
    assert not net[0].parametrizations.weight.original[1].any()


def test_state_goes_into_a_fresh_unmasked_network():
    net, fresh = network(), network(seed=1)
    mask_channels_(net[0], [net[1]], [1, 4])
    mask_parameter_(net[6], "weight", torch.arange(12).view(3, 4) % 3 > 0)
    train_(net, sgd(net))
    state = copy.deepcopy(net.state_dict())
    load_masked_state_(fresh, state)
    net.eval(), fresh.eval()
    assert torch.equal(fresh(images(seed=5)), net(images(seed=5)))
    train_(net, sgd(net)), train_(fresh, sgd(fresh))
    assert torch.equal(fresh.eval()(images(seed=6)), net.eval()(images(seed=6)))
    assert only_these_are_silent(fresh, [1, 4], train=False)
    load_masked_state_(fresh, state)  # and into one that already has masks
    assert fresh.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in fresh.state_dict().items())


def test_state_of_a_nested_module():
    nets = [nn.ModuleDict({"body": network(seed=seed)}) for seed in (0, 1)]
    mask_channels_(nets[0]["body"][0], [nets[0]["body"][1]], [2])
    load_masked_state_(nets[1], nets[0].state_dict())
    assert torch.equal(first_maps(nets[1]["body"], train=False), first_maps(nets[0]["body"], train=False))
    assert only_these_are_silent(nets[1]["body"], [2], train=False)


@pytest.mark.parametrize("fault", ["unexpected", "missing"])
def test_no_key_may_be_left_over(fault):
    state = network().state_dict()
    if fault == "unexpected":
        state["stray"] = torch.zeros(1)
    else:
        del state["0.weight"]
    with pytest.raises(RuntimeError, match=fault.capitalize()):
        load_masked_state_(network(), state)


def test_copies_after_a_backward_are_whole_and_independent():
    net = network()
    mask_channels_(net[0], [net[1]], [1])
    functional.cross_entropy(net(images()), torch.arange(8) % 3).backward()
    twin = copy.deepcopy(net)
    assert torch.equal(twin.eval()(images(seed=1)), net.eval()(images(seed=1)))
    mask_channels_(twin[0], [twin[1]], [4])
    assert only_these_are_silent(twin, [1, 4], train=False)
    assert only_these_are_silent(net, [1], train=False)


def test_a_masked_channel_can_be_taken_out():
    """The network without the channel, built by hand: conv row, norm entry and the next conv's input plane gone."""
    net = network().eval()
    mask_channels_(net[0], [net[1]], [2])
    kept = [0, 1, 3, 4, 5]
    small = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3)).eval()
    with torch.no_grad():
        small[0].weight.copy_(net[0].weight[kept]), small[0].bias.copy_(net[0].bias[kept])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(small[1], name).copy_(getattr(net[1], name)[kept])
        small[3].weight.copy_(net[3].weight[:, kept]), small[3].bias.copy_(net[3].bias)
        torch.testing.assert_close(small(images()), net[:4](images()), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*which is a no-op")
def test_saved_state_on_the_cpu_goes_into_a_network_on_another_device():
    """Checkpoints lie on the CPU; the meta device stands in for a GPU."""
    net, fresh = network(), network(seed=1).to("meta")
    mask_channels_(net[0], [net[1]], [1])
    load_masked_state_(fresh, net.state_dict())
    assert parameter_mask(fresh[0], "weight").device.type == "meta"
