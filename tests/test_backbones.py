from __future__ import annotations

import copy
import hashlib
import urllib.error
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scp_ray.activations import layer_output
from scp_ray.backbones.base import Backbone, backbones
from scp_ray.backbones.layers import find_layer, trace_layers
from scp_ray.errors import BackboneError, UnknownNameError
from scp_ray.parts import Batch, Learner, PrunableLayer

Tiny, ResNet18, VGG11 = (backbones.get(name) for name in ("tiny", "resnet18", "vgg11"))


@cache
def built(name, seed=0):
    """A network that no test changes."""
    return backbones.get(name)().build(9, image_size=96, seed=seed)


def outline(name, size=96):
    return backbones.get(name)().outline(9, image_size=size)


def equal_states(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def layers_of(module, size=16, **options):
    return trace_layers(module, torch.zeros(1, 3, size, size), **options)


def test_vgg11_layers():
    """torchvision's features: 8 convs, a ReLU after each, a pool after convs 1, 2, 4, 6 and 8."""
    names = [f"features.{index}" for index in (0, 3, 6, 8, 11, 13, 16, 18)]
    widths = [64, 128, 256, 256, 512, 512, 512, 512]
    expected = [PrunableLayer(i, n, c, ()) for i, (n, c) in enumerate(zip(names, widths, strict=True), start=1)]
    assert list(outline("vgg11").layers) == expected


def test_resnet18_layers():
    """The stem and 4 stages of 2 blocks of 2 convs; the convs on the shortcuts are left out."""
    layers = outline("resnet18").layers
    blocks = [(f"layer{s}.{b}", c) for s in (1, 2, 3, 4) for b in (0, 1) for c in (1, 2)]
    widths = [64, *(64 * 2 ** (index // 4) for index in range(16))]
    names = ["conv1", *(f"{block}.conv{c}" for block, c in blocks)]
    norms = [("bn1",), *((f"{block}.bn{c}",) for block, c in blocks)]
    assert list(layers) == [PrunableLayer(*row) for row in zip(range(1, 18), names, widths, norms, strict=True)]
    assert layers[-1] == PrunableLayer(17, "layer4.1.conv2", 512, ("layer4.1.bn2",))


def test_tiny_layers():
    layers = outline("tiny").layers
    assert [layer.channels for layer in layers] == [16, 16, 32, 32, 64, 64, 64, 64]
    assert [(layer.name, layer.norms) for layer in layers] == [(str(i), (str(i + 1),)) for i in range(0, 24, 3)]


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [("tiny", 96, 6), ("tiny", 64, 4), ("vgg11", 128, 8), ("vgg11", 224, 14), ("resnet18", 128, 4)],
)
def test_size_of_the_last_map(name, size, side):
    """tiny and VGG halve 4 times before it, ResNet 5 times."""
    network = outline(name, size)
    zeros = torch.zeros(2, 3, size, size, device="meta")
    maps = layer_output(Learner(*network), network.layers[-1], Batch(zeros, zeros, zeros, zeros))
    assert maps.shape == (2, network.layers[-1].channels, side, side)


@pytest.mark.parametrize("name", backbones.names())
def test_outline_agrees_with_the_build(name):
    network, sketch = built(name), outline(name)
    assert sketch.layers == network.layers
    shapes = {key: (value.shape, value.dtype) for key, value in network.module.state_dict().items()}
    assert {key: (value.shape, value.dtype) for key, value in sketch.module.state_dict().items()} == shapes
    assert {parameter.device.type for parameter in sketch.module.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in network.module.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", backbones.names())
def test_a_built_network_classifies(name):
    network = built(name)
    for layer in network.layers:
        conv = network.module.get_submodule(layer.name)
        assert (conv.out_channels, conv.groups) == (layer.channels, 1)
    with torch.no_grad():
        logits = network.module.eval()(torch.rand(2, 3, 96, 96))
    assert logits.shape == (2, 9)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(1, 1), (8, 8), (-1, 8), (-8, 1), (-2, 7), ("features.18", 8), ("features.0", 1)],
)
def test_find_layer(wanted, index):
    layers = outline("vgg11").layers
    assert find_layer(layers, wanted) is layers[index - 1]


@pytest.mark.parametrize("wanted", [0, 9, -9, "features.1", "classifier.0", "", "8"])
def test_an_unknown_layer_lists_those_there_are(wanted):
    layers = outline("vgg11").layers
    with pytest.raises(UnknownNameError) as caught:
        find_layer(layers, wanted)
    text = str(caught.value)
    assert f"{wanted!r} not found" in text
    assert "1..8, -8..-1" in text
    assert all(f"{layer.index} ({layer.name}, {layer.channels} channels)" in text for layer in layers)


@pytest.mark.parametrize("name", ["tiny", "resnet18"])
def test_build_depends_on_the_seed_alone(name):
    torch.manual_seed(123)
    again = backbones.get(name)().build(9, image_size=96, seed=0).module.state_dict()
    other = backbones.get(name)().build(9, image_size=96, seed=1).module.state_dict()
    first = built(name).module.state_dict()
    assert equal_states(again, first)
    assert not any(torch.equal(other[key], first[key]) for key in first if first[key].ndim > 1)


def test_build_does_not_depend_on_the_image_size():
    small = Tiny().build(9, image_size=48, seed=0)
    assert equal_states(small.module.state_dict(), built("tiny").module.state_dict())
    assert small.layers == built("tiny").layers


def test_the_default_generator_is_left_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Tiny().build(9, image_size=96, seed=0)
    Tiny().outline(9, image_size=96)
    assert torch.equal(torch.rand(3), expected)


def test_an_image_that_is_too_small():
    """VGG halves 5 times: of 16 pixels the last pool leaves none."""
    with pytest.raises(BackboneError, match=r"VGG cannot take images of 16 px: .* larger image_size"):
        outline("vgg11", 16)


@pytest.fixture(params=["weights.safetensors", "weights.pt"])
def saved(request, tmp_path):
    """The state of a tiny network with 9 classes, in a file of either kind, and that state."""
    state, path = built("tiny").module.state_dict(), tmp_path / request.param
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path, state


def test_weights_of_a_file(saved):
    path, state = saved
    network = Tiny(weights=str(path)).build(9, image_size=96, seed=77)
    assert equal_states(network.module.state_dict(), state)
    assert network.layers == built("tiny").layers


@pytest.mark.parametrize("classes", [2, 114])
def test_another_number_of_classes_gets_a_fresh_head(saved, classes):
    path, state = saved
    first, again, other = (
        Tiny(weights=str(path)).build(classes, image_size=96, seed=seed).module.state_dict() for seed in (1, 1, 2)
    )
    head = {"26.weight", "26.bias"}
    assert first["26.weight"].shape == (classes, 64)
    assert first["26.bias"].shape == (classes,)
    assert equal_states({k: v for k, v in first.items() if k not in head}, {k: state[k] for k in state.keys() - head})
    assert equal_states(first, again)
    assert not torch.equal(first["26.weight"], other["26.weight"])


@dataclass(frozen=True)
class TwoLinears(Backbone):
    """Two linear layers whose names sort the other way round: "10" before "8"."""

    weights: str = "none"

    def module(self, num_classes):
        convs = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Identity(), nn.Identity(), nn.Identity(), nn.Identity()]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, num_classes)]
        return nn.Sequential(*convs, *head)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_the_head_is_the_last_linear_layer_whatever_its_name(tmp_path, suffix):
    """safetensors keeps names in sorted order, in which "10.weight" comes before "8.weight"."""
    state, path = TwoLinears().build(3, image_size=16, seed=0).module.state_dict(), tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    network = TwoLinears(weights=str(path)).build(7, image_size=16, seed=1)
    assert torch.equal(network.module[8].weight, state["8.weight"])
    assert network.module[10].weight.shape == (7, 5)


@pytest.mark.parametrize("load", [lambda path: Tiny(weights=path).build(9, image_size=96, seed=0), None])
def test_a_missing_file(tmp_path, load):
    path = str(tmp_path / "absent.pt")
    with pytest.raises(BackboneError, match=r"absent\.pt' is not 'none', 'imagenet' or a file that exists"):
        load(path) if load else Tiny(weights=path).weights_digest()


class Booby:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    mark = tmp_path / "mark"
    torch.save({"26.weight": Booby(mark)}, tmp_path / "booby.pt")
    torch.save(built("tiny").module, tmp_path / "module.pt")
    for name in ("booby.pt", "module.pt"):
        with pytest.raises(BackboneError, match=r"holds pickled objects.*Save model\.state_dict\(\)"):
            Tiny(weights=str(tmp_path / name)).build(9, image_size=96, seed=0)
    assert not mark.exists()


@pytest.mark.parametrize("content", [{"model": {}, "epoch": 3}, [torch.zeros(1)], torch.zeros(2, 2)])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(BackboneError, match="is no state dict of tensors"):
        Tiny(weights=str(tmp_path / "other.pt")).build(9, image_size=96, seed=0)


def test_a_state_without_a_head(tmp_path):
    state = {key: value for key, value in built("tiny").module.state_dict().items() if not key.startswith("26.")}
    torch.save(state, tmp_path / "body.pt")
    with pytest.raises(BackboneError, match="do not fit tiny"):
        Tiny(weights=str(tmp_path / "body.pt")).build(9, image_size=96, seed=0)


def test_weights_of_another_network_do_not_fit(tmp_path):
    """A body of other widths under the same names."""
    state = dict(built("tiny").module.state_dict())
    state["0.weight"] = torch.zeros(8, 3, 3, 3)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(BackboneError, match=r"other\.pt"):
        Tiny(weights=str(tmp_path / "other.pt")).build(9, image_size=96, seed=0)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", None])
def test_a_broken_file(tmp_path, name, content):
    """Empty, of another kind, or cut short."""
    path, state = tmp_path / name, built("tiny").module.state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)
    with pytest.raises(BackboneError, match=name):
        Tiny(weights=str(path)).build(9, image_size=96, seed=0)


def test_digest_of_a_file_follows_its_content(tmp_path):
    path = tmp_path / "w.pt"
    for content in (b"abc", b"abd", b"abcd"):
        path.write_bytes(content)
        assert Tiny(weights=str(path)).weights_digest() == hashlib.sha256(content).hexdigest()


def test_digests_without_a_file():
    """torchvision writes the first digits of the file's SHA-256 into its name."""
    assert Tiny().weights_digest() == VGG11().weights_digest() == "none"
    assert VGG11(weights="imagenet").weights_digest() == "imagenet-vgg11-8a719046"
    assert ResNet18(weights="imagenet").weights_digest() == "imagenet-resnet18-f37072fd"


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty download folder and a network that is down."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("the network is down")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("name", "file"), [("vgg11", "vgg11-8a719046.pth"), ("resnet18", "resnet18-f37072fd.pth")])
def test_imagenet_without_a_network(name, file):
    with pytest.raises(BackboneError) as caught:
        backbones.get(name)(weights="imagenet").build(9, image_size=96, seed=0)
    text = str(caught.value)
    assert "the network is down" in text
    assert f"bring {file} from elsewhere and set weights: PATH to it" in text


@pytest.mark.usefixtures("no_network")
def test_imagenet_where_there_is_none():
    for ask in (lambda tiny: tiny.build(9, image_size=96, seed=0), lambda tiny: tiny.weights_digest()):
        with pytest.raises(BackboneError, match=r"imagenet is not to be had.*Allowed: 'none' or a path"):
            ask(Tiny(weights="imagenet"))


class UsersNet(nn.Module):
    """Defined out of order, with a grouped conv, an unused one, a norm behind a ReLU and one behind a sum."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(8, 5, 1)
        self.unused = nn.Conv2d(3, 3, 1)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.stem = nn.Conv2d(3, 6, 3)
        self.stem_norm = nn.InstanceNorm2d(6, affine=True)
        self.depthwise_norm = nn.BatchNorm2d(6)
        self.wide = nn.Conv2d(6, 8, 3)
        self.late_norm = nn.BatchNorm2d(8)
        self.sum_norm = nn.BatchNorm2d(5)
        self.side = nn.Conv2d(8, 5, 1)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.stem_norm(self.stem(x)).relu()
        x = self.depthwise_norm(self.depthwise(x)).relu()
        x = self.late_norm(self.wide(x).relu())
        x = self.sum_norm(self.last(x) + self.side(x))
        return self.head(x.mean((2, 3)))


def test_layers_of_a_users_own_network():
    """In the order of the forward pass; a norm counts where it is fed by one convolution and nothing else."""
    expected = [("stem", 6, ("stem_norm",)), ("wide", 8, ()), ("last", 5, ()), ("side", 5, ())]
    assert [(layer.name, layer.channels, layer.norms) for layer in layers_of(UsersNet())] == expected
    kept = layers_of(UsersNet(), ignored=("side", "stem"))
    assert [(layer.index, layer.name) for layer in kept] == [(1, "wide"), (2, "last")]


def test_tracing_leaves_the_network_as_it_was():
    net = UsersNet()
    net.late_norm.eval()
    modes, state = [part.training for part in net.modules()], copy.deepcopy(net.state_dict())
    layers_of(net)
    assert [part.training for part in net.modules()] == modes
    assert equal_states(net.state_dict(), state)
    assert not any(part._forward_hooks for part in net.modules())


class InPlaceSum(nn.Module):
    """The shortcut is added to the convolution's own tensor, so that the norm sees other numbers too."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x):
        made = self.conv(x)
        made += x
        return self.head(self.norm(made).mean((2, 3)))


def test_a_norm_fed_by_a_sum_in_place_is_not_the_convolutions_own():
    """Masking it would silence the shortcut with the channel."""
    assert layers_of(InPlaceSum()) == (PrunableLayer(1, "conv", 3, ()),)


class SharedNorm(nn.Module):
    """One norm for the outputs of two convolutions, one after the other."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.two(self.norm(self.one(x)))).mean((2, 3))


def test_a_norm_that_two_convolutions_feed_belongs_to_neither():
    """Masking it with a channel of the one would silence that channel of the other."""
    assert [layer.norms for layer in layers_of(SharedNorm())] == [(), ()]


def test_a_network_without_an_ordinary_convolution():
    for module in (nn.Flatten(), nn.Conv2d(3, 3, 1, groups=3)):
        with pytest.raises(BackboneError, match="no channels to prune"):
            layers_of(module)
