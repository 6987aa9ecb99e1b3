"""Which convolutions are layers, what is masked with each, and how a refusal reads."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from miniature import SPACE, TRIAL
from torch import nn
from torch.nn import functional

from scp_ray.backbones.base import backbones
from scp_ray.backbones.layers import Layers, find_layer, trace_layers
from scp_ray.config import SweepConfig
from scp_ray.errors import BackboneError, ConfigError, UnknownNameError
from scp_ray.loop.rounds import apply_channel_mask_
from scp_ray.maths.masks import mask_channels_
from scp_ray.parts import Learner, PrunableLayer

# Counted by hand from the architectures. CHECKED are those that docs/backbones.md promises.
CHECKED = {
    "vgg11-bn": 8,
    "resnet18": 1 + 8 * 2,  # stem, 8 blocks of 2
    "resnet50": 1 + 16 * 3,  # stem, 3 + 4 + 6 + 3 bottlenecks of 1x1, 3x3, 1x1
    "densenet121": 1 + (6 + 12 + 24 + 16) * 2 + 3,  # stem, dense layers of 1x1 and 3x3, transitions
    "mobilenet_v3_large": 1 + 1 + 14 * 2 + 1,  # stem, a block without expansion, 14 that expand and project, last
    "mobilenet_v3_small": 1 + 1 + 10 * 2 + 1,
    "efficientnet_b0": 1 + 1 + 15 * 2 + 1,  # likewise, of 1 + 2 + 2 + 3 + 3 + 4 + 1 blocks
    "convnext_tiny": 1 + 3,  # stem and downsamplings; in its blocks are depthwise convolutions and linear layers
}
OTHERS = {
    "alexnet": 5,
    "googlenet": 3 + 9 * 6,
    "mnasnet0_5": 1 + 1 + 16 * 2 + 1,
    "mobilenet_v2": 1 + 1 + 16 * 2 + 1,
    "resnext50_32x4d": 1 + 16 * 2,  # the 3x3 of each bottleneck is grouped
    "wide_resnet50_2": 1 + 16 * 3,
    "shufflenet_v2_x0_5": 1 + 16 * 2 + 3 + 1,  # stem, 16 units of two 1x1, one more in 3 of them, last
    "regnet_x_400mf": 1 + 22 * 2,  # blocks of 1x1, grouped 3x3, 1x1
    "regnet_y_400mf": 1 + 16 * 2,
    # 5 in the stem; 3 modules A of 7, one B of 4, 4 C of 10, one D of 6, 2 E of 9
    "inception_v3": 5 + 3 * 7 + 4 + 4 * 10 + 6 + 2 * 9,
}


def backbone(name):
    return backbones.get(name)() if name in backbones.names() else backbones.get("torchvision")(name)


def outline(name, size=96):
    return backbone(name).outline(4, image_size=size)


def layers_of(module, size=16, **options):
    return trace_layers(module, torch.zeros(1, 3, size, size), **options)


@pytest.mark.parametrize(("name", "count"), [*CHECKED.items(), *OTHERS.items()])
def test_number_of_layers(name, count):
    network = outline(name)
    assert [layer.index for layer in network.layers] == list(range(1, count + 1))
    for layer in network.layers:
        conv = network.module.get_submodule(layer.name)
        assert (conv.groups, conv.out_channels) == (1, layer.channels)


def test_the_page_tells_the_same_numbers():
    text = (Path(__file__).parents[1] / "docs" / "backbones.md").read_text(encoding="utf-8")
    told = {name: int(count) for name, count in re.findall(r"^\| `([\w-]+)` \| (\d+) \|", text, flags=re.MULTILINE)}
    assert told == CHECKED | {"tiny": 8, "vgg11": 8}


@pytest.mark.parametrize("name", CHECKED)
def test_layers_do_not_depend_on_the_image_size(name):
    """At 32 px all of these end in maps of 1 x 1, which makes no gate of an ordinary convolution."""
    small, large = outline(name, 32).layers, outline(name, 128).layers
    assert small == large
    assert small.refused == large.refused


def test_layers_of_mobilenet_v3_small():
    """By hand: block 1 has no expansion; blocks 2 and 3 have no gate."""
    layers = {layer.name: layer for layer in outline("mobilenet_v3_small").layers}
    stem = ("features.0.1", "features.1.block.0.1"), ("features.1.block.0.0",)
    assert layers["features.0.0"] == PrunableLayer(1, "features.0.0", 16, *stem)
    assert list(layers)[1:6] == [
        "features.1.block.2.0",
        "features.2.block.0.0",
        "features.2.block.2.0",
        "features.3.block.0.0",
        "features.3.block.2.0",
    ]
    expand = ("features.2.block.0.1", "features.2.block.1.1"), ("features.2.block.1.0",)
    assert layers["features.2.block.0.0"] == PrunableLayer(3, "features.2.block.0.0", 72, *expand)
    # what a block adds up is nobody's own, so block 2's projection ends at its norm
    assert layers["features.2.block.2.0"] == PrunableLayer(4, "features.2.block.2.0", 24, ("features.2.block.2.1",))
    assert layers["features.12.0"] == PrunableLayer(23, "features.12.0", 576, ("features.12.1",))


def test_layers_of_convnext_tiny():
    """Stem and downsamplings go through the first block's depthwise convolution and its layer norm."""
    stem = ("features.0.1", "features.1.0.block.2"), ("features.1.0.block.0",)
    down = [
        (2, "features.2.1", 192, ("features.3.0.block.2",), ("features.3.0.block.0",)),
        (3, "features.4.1", 384, ("features.5.0.block.2",), ("features.5.0.block.0",)),
        (4, "features.6.1", 768, ("features.7.0.block.2",), ("features.7.0.block.0",)),
    ]
    expected = [PrunableLayer(1, "features.0.0", 96, *stem), *(PrunableLayer(*row) for row in down)]
    assert list(outline("convnext_tiny").layers) == expected


def test_norms_of_densenet121():
    """A norm behind a concatenation of one is fed by that one alone; behind others it is nobody's."""
    layers = {layer.name.removeprefix("features."): layer.norms for layer in outline("densenet121").layers}
    first = "features.denseblock{}.denselayer1.norm1"
    assert layers["conv0"] == ("features.norm0", first.format(1))
    assert [layers[f"transition{index}.conv"] for index in (1, 2, 3)] == [(first.format(i),) for i in (2, 3, 4)]
    assert layers["denseblock3.denselayer7.conv1"] == ("features.denseblock3.denselayer7.norm2",)
    assert {layers[name] for name in layers if name.endswith("conv2")} == {()}


# The first, a middle and the last layer; and, read off the architecture, places up to the first part that mixes
# channels: what goes in or comes out of a part, and along which dimension the layer's channels lie there.
IN, OUT = "in", "out"
SPOTS = {
    "vgg11-bn": [
        ("features.0", [("features.4", IN, 1)]),
        ("features.11", [("features.15", IN, 1)]),
        ("features.25", [("avgpool", OUT, 1)]),
    ],
    "resnet18": [
        ("conv1", [("layer1.0.conv1", IN, 1)]),
        ("layer2.1.conv1", [("layer2.1.conv2", IN, 1)]),
        ("layer4.1.conv2", [("layer4.1.bn2", OUT, 1)]),
    ],
    "resnet50": [
        ("conv1", [("layer1.0.conv1", IN, 1), ("layer1.0.downsample.0", IN, 1)]),
        ("layer3.2.conv2", [("layer3.2.conv3", IN, 1)]),
        ("layer4.2.conv3", [("layer4.2.bn3", OUT, 1)]),
    ],
    "densenet121": [
        ("features.conv0", [("features.pool0", OUT, 1), ("features.denseblock1.denselayer1.conv1", IN, 1)]),
        ("features.transition2.conv", [("features.denseblock3.denselayer1.conv1", IN, 1)]),
        ("features.denseblock3.denselayer5.conv1", [("features.denseblock3.denselayer5.conv2", IN, 1)]),
        ("features.denseblock4.denselayer16.conv2", [("features.denseblock4.denselayer16", OUT, 1)]),
    ],
    "mobilenet_v3_large": [
        ("features.0.0", [("features.1", IN, 1), ("features.1.block.1.0", IN, 1)]),
        ("features.12.block.0.0", [("features.12.block.1.0", IN, 1), ("features.12.block.2", IN, 1)]),
        ("features.16.0", [("classifier.0", IN, 1)]),
    ],
    "mobilenet_v3_small": [
        ("features.0.0", [("features.1.block.0.0", IN, 1), ("features.1.block.1", IN, 1)]),
        ("features.5.block.3.0", [("features.5.block.3.1", OUT, 1)]),
        ("features.12.0", [("classifier.0", IN, 1)]),
    ],
    "efficientnet_b0": [
        ("features.0.0", [("features.1.0.block.0.0", IN, 1), ("features.1.0.block.1", IN, 1)]),
        ("features.4.1.block.0.0", [("features.4.1.block.1.0", OUT, 1), ("features.4.1.block.2", IN, 1)]),
        ("features.8.0", [("classifier.1", IN, 1)]),
    ],
    "convnext_tiny": [
        ("features.0.0", [("features.1", IN, 1), ("features.1.0.block.0", OUT, 1), ("features.1.0.block.3", IN, -1)]),
        ("features.4.1", [("features.5.0.block.0", OUT, 1), ("features.5.0.block.3", IN, -1)]),
        ("features.6.1", [("features.7.0.block.0", OUT, 1), ("features.7.0.block.3", IN, -1)]),
    ],
}
PRUNED = [0, 3, 4, 10, 11, 12, 15]
SIZE = 64


def randomised(name):
    """A network whose norms and biases have no zero that could stand for a mask's."""
    network = backbone(name).build(4, image_size=SIZE, seed=0)
    if name == "vgg11-bn":  # 120 M parameters less to copy
        network.module.classifier = nn.Linear(512 * 7 * 7, 4)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in network.module.modules():
            if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
                part.weight.uniform_(0.5, 1.5, generator=generator)
            for tensor in (getattr(part, "bias", None), getattr(part, "running_mean", None)):
                if tensor is not None and not isinstance(part, nn.Linear):
                    tensor.normal_(generator=generator)
            if getattr(part, "running_var", None) is not None:
                part.running_var.uniform_(0.5, 1.5, generator=generator)
    return Learner(*network)


def images(count=4):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def channels_at(module, spots, image):
    """(C, values) of each spot in one forward pass, copied before anything can change them in place."""
    caught, handles = {}, []

    def keep(spot, tensor):
        caught[spot] = tensor.detach().clone().movedim(spot[2], 0).flatten(1)

    for spot in spots:
        part = module.get_submodule(spot[0])
        if spot[1] == IN:
            handles.append(part.register_forward_pre_hook(lambda _, given, spot=spot: keep(spot, given[0])))
        else:
            handles.append(part.register_forward_hook(lambda _, given, made, spot=spot: keep(spot, made)))
    with torch.no_grad():
        module(image)
    for handle in handles:
        handle.remove()
    assert set(caught) == set(spots)
    return caught


def assert_silent(learner, name):
    """In eval and in train mode, at every spot of every layer; and the other channels are not."""
    spots = [spot for _, spots in SPOTS[name] for spot in spots]
    for training in (False, True):
        before = copy.deepcopy(learner.network)  # a pass in train mode changes running statistics
        for spot, values in channels_at(before.train(training), spots, images()).items():
            kept = [channel for channel in range(len(values)) if channel not in PRUNED]
            assert (values[PRUNED] == 0).all(), f"{spot} in {'train' if training else 'eval'} mode"
            assert values[kept].isfinite().all()
            assert (values[kept] != 0).any()


def sgd_step(learner, optimizer):
    learner.train()
    optimizer.zero_grad()
    functional.cross_entropy(learner(images()), torch.arange(4)).backward()
    optimizer.step()


@pytest.mark.parametrize("name", SPOTS)
def test_pruned_channels_are_zero_up_to_where_channels_are_mixed(name):
    """And stay so through momentum from before the pruning, and through weight decay."""
    learner = randomised(name)
    optimizer = torch.optim.SGD(learner.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    sgd_step(learner, optimizer)
    for layer, _ in SPOTS[name]:
        apply_channel_mask_(learner, find_layer(learner.layers, layer), PRUNED)
    assert_silent(learner, name)
    for _ in range(2):
        sgd_step(learner, optimizer)
    assert_silent(learner, name)


@pytest.mark.parametrize("name", SPOTS)
def test_each_mask_is_needed(name):
    """Without the norms, or without what comes after a depthwise convolution, something gets through."""
    learner = randomised(name).eval()
    for wanted, spots in SPOTS[name]:
        layer = find_layer(learner.layers, wanted)
        left_out = []
        if layer.norms:
            left_out.append(replace(layer, norms=()))
        if layer.followers:
            alone = tuple(norm for norm in layer.norms if norm.rpartition(".")[0] == wanted.rpartition(".")[0])
            left_out.append(replace(layer, norms=alone, followers=()))
        for less in left_out:
            pruned = copy.deepcopy(learner)
            apply_channel_mask_(pruned, less, PRUNED)
            assert any((values[PRUNED] != 0).any() for values in channels_at(pruned.network, spots, images()).values())


def test_the_skip_path_of_a_resnet_still_carries_a_pruned_channel():
    """methods.md, section 11.2: the convolution and its norm are silenced, the addition is left alone."""
    learner = randomised("resnet18").eval()
    apply_channel_mask_(learner, learner.layers[-1], PRUNED)
    before, after = ("layer4.0", OUT, 1), ("layer4.1", OUT, 1)
    seen = channels_at(learner.network, [before, after], images())
    assert torch.equal(seen[after][PRUNED], seen[before][PRUNED].relu())
    assert (seen[after][PRUNED] > 0).any()


def test_what_a_densenet_makes_of_a_zero_behind_a_concatenation():
    """The next dense layer's norm has the stem's channels and others: beta - gamma mu / sigma goes on."""
    learner = randomised("densenet121").eval()
    apply_channel_mask_(learner, learner.layers[0], PRUNED)
    spot = ("features.denseblock1.denselayer2.norm1", OUT, 1)
    seen = channels_at(learner.network, [spot], images())[spot][PRUNED]
    norm = learner.network.get_submodule(spot[0])
    constant = norm.bias - norm.weight * norm.running_mean / (norm.running_var + 1e-5).sqrt()
    assert torch.allclose(seen, constant[PRUNED, None].expand_as(seen), atol=1e-5)


def test_a_follower_without_a_norm():
    """Its bias is all that would get through; mask: released keeps the biases of both."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.LazyLinear(2))
    net(torch.zeros(1, 3, 8, 8))
    with torch.no_grad():
        net[0].bias.fill_(1.0)
        net[2].bias.copy_(torch.tensor([5.0, 6.0, 7.0, 8.0]))
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for bias, outcome in ((True, 0.0), (False, 7.0)):
        learner = Learner(copy.deepcopy(net), layers_of(net, 8))
        apply_channel_mask_(learner, learner.layers[0], [2], bias=bias)
        made = learner.network[:3](image)
        assert (made[:, 2] == outcome).all()
        assert torch.equal(made[:, [0, 1, 3]], net[:3](image)[:, [0, 1, 3]])


class Between(nn.Module):
    """A convolution of 4 channels, something, and a depthwise convolution with a norm."""

    def __init__(self, between):
        super().__init__()
        self.conv, self.between = nn.Conv2d(3, 4, 3), between
        self.depthwise, self.norm = nn.Conv2d(4, 4, 1, groups=4), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.depthwise(self.between(self.conv(x))))


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardswish(inplace=True), nn.Hardsigmoid(), nn.SiLU(),
    nn.SiLU(inplace=True), nn.GELU(), nn.Mish(), nn.ELU(), nn.CELU(), nn.SELU(), nn.LeakyReLU(), nn.PReLU(4),
    nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.Hardtanh(), nn.Dropout(), nn.Dropout2d(), nn.Identity(),
]  # fmt: skip
APART = [
    nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3), nn.Upsample(scale_factor=2), nn.ZeroPad2d(1),
    nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Dropout()),
    Call(functional.relu), Call(torch.relu), Call(torch.Tensor.relu_), Call(lambda x: x.clamp(min=0)),
    Call(lambda x: functional.relu(x, inplace=True)), Call(lambda x: torch.cat([x], 1)),
    Call(lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2)),
    Call(lambda x: torch.permute(x, (0, 2, -1, -3)).permute(dims=(0, 3, 1, 2)).contiguous()),
]  # fmt: skip
MIXED = [
    nn.Softmax(1), nn.ChannelShuffle(2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2), nn.LayerNorm([4, 4, 4]),
    Call(lambda x: x + x.flip(1)), Call(lambda x: x.flip(1)), Call(lambda x: x.roll(1, 1)),
    Call(lambda x: torch.cat([x[:, :2], x[:, 2:]], 1)), Call(lambda x: x.mul_(x.mean(1, keepdim=True))),
    Call(lambda x: x.permute(0, 2, 1, 3)), Call(lambda x: x.permute(0, 3, 2, 1).relu()),
    Call(lambda x: functional.max_pool2d(x.permute(0, 2, 3, 1), 1).permute(0, 3, 1, 2)),
    Call(lambda x: functional.pad(x, (0, 0, 0, 0, 1, -1))), Call(lambda x: functional.pad(x, pad=(0,) * 4 + (1, -1))),
    Call(lambda x: functional.normalize(x)), Call(lambda x: functional.interpolate(x[None], scale_factor=1)[0]),
]  # fmt: skip


@pytest.mark.parametrize("between", [*ACTIVATIONS, *APART], ids=str)
def test_what_a_chain_goes_through(between):
    expected = [PrunableLayer(1, "conv", 4, ("norm",), ("depthwise",))]
    assert list(layers_of(Between(between), 6)) == expected


@pytest.mark.parametrize("between", MIXED, ids=str)
def test_what_ends_a_chain(between):
    """The image is of 6 px, so that all dimensions of the convolution's maps are of 4 and no shape gives them away."""
    first = layers_of(Between(between), 6)[0]
    assert (first.norms, first.followers) == ((), ())


def test_a_depthwise_convolution_of_several_outputs_ends_a_chain():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 1, groups=4), nn.BatchNorm2d(8))
    layers = layers_of(net)
    assert layers == (PrunableLayer(1, "0", 4, ()),)
    assert layers.refused == {"1": "is a grouped convolution (4 groups), and only ordinary ones count as layers"}


class Joined(nn.Module):
    """Two convolutions one below the other, and a norm of both."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(torch.cat([self.one(x), self.two(x)], 2))


def test_a_norm_of_two_maps_joined_along_their_height_is_neithers():
    assert [layer.norms for layer in layers_of(Joined())] == [(), ()]


def test_a_norm_of_one_channel_made_four_is_not_its_own():
    """Its affine part has more entries than the layer has channels."""
    net = nn.Sequential(nn.Conv2d(3, 1, 3), Call(lambda x: x.clamp(min=torch.zeros(1, 4, 1, 1))), nn.BatchNorm2d(4))
    assert layers_of(net)[0].norms == ()


def test_a_pool_that_leaves_a_map_makes_no_gate():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3), nn.Conv2d(4, 4, 1))
    assert [layer.name for layer in layers_of(net)] == ["0", "2"]


def test_channels_last_layer_norm():
    """Over the last dimension where the channels are there, and not where something else is."""

    def net(*order, over=4):
        return nn.Sequential(nn.Conv2d(3, 4, 3), Call(lambda x: x.permute(*order)), nn.LayerNorm(over))

    assert layers_of(net(0, 2, 3, 1), 6)[0].norms == ("2",)
    assert layers_of(net(0, 1, 2, 3), 6)[0].norms == ()
    assert layers_of(net(0, 3, 1, 2), 6)[0].norms == ()
    assert layers_of(net(0, 2, 3, 1, over=(4, 4)), 6)[0].norms == ()  # its weights are no channel's


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4), nn.BatchNorm2d(4)], ids=str)
def test_a_norm_behind_an_activation(norm):
    assert layers_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), norm))[0].norms == ("2",)


class Twice(nn.Module):
    """One depthwise convolution behind two convolutions, or twice behind the same."""

    def __init__(self, same):
        super().__init__()
        self.one, self.two, self.same = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), same
        self.depthwise = nn.Conv2d(4, 4, 1, groups=4)

    def forward(self, x):
        return self.depthwise(self.one(x)) + self.depthwise(self.one(x) if self.same else self.two(x))


def test_a_depthwise_convolution_that_two_layers_feed_follows_neither():
    shared = layers_of(Twice(same=False))
    assert [layer.followers for layer in shared] == [(), ()]
    assert shared.refused["depthwise"].endswith("its channels come from several convolutions, so it goes with none")
    assert [layer.followers for layer in layers_of(Twice(same=True))] == [("depthwise",)]


def test_layers_of_a_masked_network_are_the_same():
    learner = randomised("mobilenet_v3_small")
    expected = learner.layers
    apply_channel_mask_(learner, expected[0], PRUNED)
    assert trace_layers(learner.network, images(1)) == expected


def test_a_convolution_called_by_keyword():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(input=self.conv(input=x))

    assert layers_of(Keyword()) == (PrunableLayer(1, "conv", 4, ("norm",)),)


class Gated(nn.Module):
    """Squeeze and excitation by hand, without a name that tells."""

    def __init__(self, squeeze):
        super().__init__()
        self.conv, self.squeeze = nn.Conv2d(3, 4, 3), squeeze
        self.a, self.norm, self.b, self.last = (
            nn.Conv2d(4, 2, 1),
            nn.BatchNorm2d(2),
            nn.Conv2d(2, 4, 1),
            nn.Conv2d(4, 5, 1),
        )

    def forward(self, x):
        x = self.conv(x)
        return self.last(x * self.b(self.norm(self.a(self.squeeze(x))).relu()).sigmoid())


@pytest.mark.parametrize(
    "squeeze",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveMaxPool2d((1, 1)),
        Call(lambda x: x.mean((2, 3), keepdim=True)),
        Call(lambda x: x.amax((-2, -1), True)),
    ],
    ids=str,
)
def test_gates_are_no_layers(squeeze):
    layers = layers_of(Gated(squeeze))
    assert [layer.name for layer in layers] == ["conv", "last"]
    assert set(layers.refused) == {"a", "b"}


@pytest.mark.parametrize(
    ("model", "wanted", "reason"),
    [
        (
            "mobilenet_v3_small",
            "features.2.block.1.0",
            "is a depthwise convolution: it goes with features.2.block.0.0.",
        ),
        ("efficientnet_b0", "features.1.0.block.0.0", "is a depthwise convolution: it goes with features.0.0."),
        ("convnext_tiny", "features.1.1.block.0", "its channels come from several convolutions, so it goes with none."),
        ("mobilenet_v3_small", "features.1.block.1.fc2", "works on globally pooled values .* makes no feature maps."),
        ("resnet50", "layer2.0.downsample.0", "is on a shortcut"),
        ("regnet_y_400mf", "trunk_output.block1.block1-0.proj.0", "is on a shortcut"),
        ("resnext50_32x4d", "layer1.0.conv2", r"is a grouped convolution \(32 groups\)"),
    ],
)
def test_refusals(model, wanted, reason):
    layers = outline(model).layers
    with pytest.raises(BackboneError, match=f"^layer {wanted} {reason}" if reason[:3] != "its" else reason) as caught:
        find_layer(layers, wanted)
    assert all(f"{layer.index} ({layer.name}, {layer.channels} channels)" in str(caught.value) for layer in layers)


def test_an_unused_convolution_is_refused_and_a_norm_is_unknown():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net[0].spare = nn.Conv2d(3, 4, 3)
    layers = layers_of(net)
    with pytest.raises(BackboneError, match=r"layer 0\.spare is not reached by a forward pass"):
        find_layer(layers, "0.spare")
    with pytest.raises(UnknownNameError, match="'1' not found"):
        find_layer(layers, "1")


def test_a_sweep_says_why_a_layer_is_refused():
    trial = TRIAL | {
        "backbone": {"name": "torchvision", "model": "mobilenet_v3_small"},
        "layer": "features.1.block.0.0",
    }
    with pytest.raises(ConfigError, match=r"trial\.layer: layer .* depthwise convolution: it goes with features\.0\.0"):
        SweepConfig.from_dict(SPACE | {"trial": trial}).resolved_arms()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda layers: pickle.loads(pickle.dumps(layers))])
def test_layers_travel_with_their_refusals(again):
    layers = layers_of(Gated(nn.AdaptiveAvgPool2d(1)))
    twin = again(layers)
    assert isinstance(twin, Layers)
    assert (twin, twin.refused) == (layers, layers.refused)


def test_a_layer_norm_loses_a_masked_channel_and_its_mean_moves():
    """By hand on one pixel: (1, 5, 0) becomes (1, 0, 0) before the norm; the middle channel is 0 after it."""

    net = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), Call(lambda x: x.permute(0, 2, 3, 1)), nn.LayerNorm(3, eps=0.0))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3)[:, :, None, None])
    (layer,) = layers_of(net, 1)
    mask_channels_(net[0], [net.get_submodule(name) for name in layer.norms], [1])
    made = net(torch.tensor([1.0, 5.0, 0.0]).view(1, 3, 1, 1)).flatten()
    assert torch.allclose(made, torch.tensor([2**0.5, 0.0, -(2**-0.5)]))
