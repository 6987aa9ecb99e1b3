from __future__ import annotations

import copy
import hashlib
import importlib
import re
import urllib.error
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from scp_ray.activations import layer_output
from scp_ray.backbones.base import Backbone, backbones
from scp_ray.backbones.layers import find_layer, trace_layers
from scp_ray.config.parse import read_plugin
from scp_ray.errors import BackboneError, UnknownNameError
from scp_ray.modes import drawing_from
from scp_ray.parts import Batch, Learner, PrunableLayer
from scp_ray.registry import spec_of

Tiny, ResNet18, VGG11, VGG11BN, Torchvision = (
    backbones.get(name) for name in ("tiny", "resnet18", "vgg11", "vgg11-bn", "torchvision")
)


def made(name):
    return Torchvision("mobilenet_v3_small") if name == "torchvision" else backbones.get(name)()


@cache
def built(name, seed=0):
    """A network that no test changes."""
    return made(name).build(9, image_size=96, seed=seed)


def outline(name, size=96):
    return made(name).outline(9, image_size=size)


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


def test_vgg11_bn_layers():
    """A batch norm after each convolution moves the indices."""
    indices, widths = (0, 4, 8, 11, 15, 18, 22, 25), [64, 128, 256, 256, 512, 512, 512, 512]
    rows = zip(range(1, 9), indices, widths, strict=True)
    expected = [PrunableLayer(i, f"features.{n}", c, (f"features.{n + 1}",)) for i, n, c in rows]
    assert list(outline("vgg11-bn").layers) == expected


@pytest.mark.parametrize("name", ["vgg11", "vgg11-bn"])
def test_stages_of_vgg11_are_its_pools(name):
    """All but the first: maps of 1/4, 1/8, 1/16 and 1/32 per side."""
    network = outline(name, 64)
    pools = [n for n, part in network.module.named_modules() if isinstance(part, nn.MaxPool2d)]
    assert network.stages == tuple(pools[1:])
    sizes = []
    for stage in network.stages:
        part = network.module.get_submodule(stage)
        part.register_forward_hook(lambda _, given, output: sizes.append(tuple(output.shape[1:])))
    network.module(torch.zeros(1, 3, 64, 64, device="meta"))
    assert sizes == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]


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
    [
        ("tiny", 96, 6),
        ("tiny", 64, 4),
        ("vgg11", 128, 8),
        ("vgg11", 224, 14),
        ("vgg11-bn", 128, 8),
        ("resnet18", 128, 4),
    ],
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


@pytest.mark.parametrize("backbone", [Tiny(), Torchvision("regnet_x_400mf")])
def test_the_default_generator_is_left_as_it_was(backbone):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    backbone.build(9, image_size=96, seed=0)
    backbone.outline(9, image_size=96)
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
    assert Tiny().weights_digest() == VGG11().weights_digest() == Torchvision("resnet50").weights_digest() == "none"
    assert VGG11(weights="imagenet").weights_digest() == "imagenet-vgg11-8a719046"
    assert VGG11BN(weights="imagenet").weights_digest() == "imagenet-vgg11_bn-6002323d"
    assert Torchvision("densenet121", "imagenet").weights_digest() == "imagenet-densenet121-a639ec97"
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
@pytest.mark.parametrize(
    ("backbone", "file"),
    [
        (VGG11(weights="imagenet"), "vgg11-8a719046.pth"),
        (VGG11BN(weights="imagenet"), "vgg11_bn-6002323d.pth"),
        (ResNet18(weights="imagenet"), "resnet18-f37072fd.pth"),
        (Torchvision("convnext_tiny", weights="imagenet"), "convnext_tiny-983f1562.pth"),
    ],
)
def test_imagenet_without_a_network(backbone, file):
    with pytest.raises(BackboneError) as caught:
        backbone.build(9, image_size=96, seed=0)
    text = str(caught.value)
    assert "the network is down" in text
    assert f"bring {file} from elsewhere and set weights: PATH to it" in text


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("backbone", "of"),
    [(Tiny(weights="imagenet"), "this backbone"), (Torchvision("regnet_y_128gf", "imagenet"), "regnet_y_128gf")],
)
def test_imagenet_where_there_is_none(backbone, of):
    """torchvision has regnet_y_128gf with other weights alone."""
    for ask in (lambda backbone: backbone.check_weights(), lambda backbone: backbone.weights_digest()):
        with pytest.raises(BackboneError, match=f"imagenet is not to be had for {of}.*Allowed: 'none' or a path"):
            ask(backbone)


@pytest.mark.parametrize("classes", [9, 5])
def test_weights_of_a_file_for_vgg11_bn(tmp_path, classes):
    shapes = {key: value.shape for key, value in VGG11BN().sketch(9).state_dict().items()}
    # one number each, so that the file is small
    state = {key: torch.full((), 1.0 + index).expand(shape) for index, (key, shape) in enumerate(shapes.items())}
    torch.save(state, tmp_path / "w.pt")
    module = VGG11BN(weights=str(tmp_path / "w.pt")).build(classes, image_size=64, seed=0).module
    loaded = module.state_dict()
    head = {"classifier.6.weight", "classifier.6.bias"} if classes != 9 else set()
    assert module.classifier[6].out_features == classes
    assert all((loaded[key] == state[key]).all() for key in state.keys() - head)


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5", "regnet_x_400mf"])
@pytest.mark.parametrize("classes", [9, 5])
def test_weights_of_a_file_for_torchvision(tmp_path, model, classes):
    """As torchvision itself saves them; the head is fresh where the number of classes is another."""
    with drawing_from(3):
        state = models.get_model(model, weights=None, num_classes=9).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    backbone = Torchvision(model, weights=str(tmp_path / "w.safetensors"))
    module = backbone.build(classes, image_size=64, seed=0).module
    loaded = module.state_dict()
    head = [key for key, value in state.items() if value.shape[:1] == (9,)]
    assert len(head) == 2
    assert all(loaded[key].shape[0] == classes for key in head)
    body = state.keys() - (set(head) if classes != 9 else set())
    assert all(torch.equal(loaded[key], state[key]) for key in body)
    assert backbone.weights_digest() == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()


def test_densenet_files_with_the_names_of_its_first_version(tmp_path):
    """Such as norm.1 for norm1: torchvision's own ImageNet file of densenet121 has them."""
    with drawing_from(3):
        state = models.densenet121(num_classes=9).state_dict()
    old = {re.sub(r"(denselayer\d+\.[a-z]+)([12])", r"\1.\2", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    network = Torchvision("densenet121", weights=str(tmp_path / "old.pth")).build(9, image_size=64, seed=0)
    assert equal_states(network.module.state_dict(), state)


@pytest.mark.parametrize("model", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_left_out(tmp_path, model):
    """A file may hold them, as the ImageNet ones do; training gives one tensor of logits."""
    with torch.device("meta"):
        full = models.get_model(model, weights=None, num_classes=9, aux_logits=True, init_weights=True).state_dict()
    state = {key: torch.full((), 0.5).to(value.dtype).expand(value.shape) for key, value in full.items()}
    torch.save(state, tmp_path / "w.pt")
    module = Torchvision(model, weights=str(tmp_path / "w.pt")).build(9, image_size=96, seed=0).module
    loaded = module.state_dict()
    assert {key.split(".")[0] for key in state.keys() - loaded.keys()} in ({"aux1", "aux2"}, {"AuxLogits"})
    assert all((loaded[key] == state[key]).all() for key in loaded)
    assert module.train()(torch.rand(2, 3, 96, 96)).shape == (2, 9)


def test_a_state_that_says_no_version_does_not_fit_mnasnet(tmp_path):
    """torchvision raises a ValueError of its own there."""
    with torch.device("meta"):
        state = models.mnasnet0_5(num_classes=9).state_dict()
    save_file({key: torch.zeros(value.shape) for key, value in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(BackboneError, match=r"w\.safetensors do not fit torchvision mnasnet0_5"):
        Torchvision("mnasnet0_5", weights=str(tmp_path / "w.safetensors")).build(9, image_size=64, seed=0)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            "densnet121",
            "only torchvision's classification CNNs can be named) 'densnet121' not found. Did you mean 'dense",
        ),
        ("fcn_resnet50", "'fcn_resnet50' not found"),
        ("vit_b_16", "model: vit_b_16 is a vision transformer"),
        ("swin_v2_t", "model: swin_v2_t is a vision transformer"),
        ("maxvit_t", "model: maxvit_t is a vision transformer"),
        ("squeezenet1_1", "model: squeezenet1_1 classifies by a convolution"),
    ],
)
def test_models_that_are_not_offered(model, text):
    faults = []
    assert read_plugin(backbones, {"name": "torchvision", "model": model}, "trial.backbone", faults) is None
    assert len(faults) == 1
    assert faults[0].startswith("trial.backbone.model")
    assert text in faults[0]


def test_every_offered_model_classifies_by_a_linear_layer_and_without_attention():
    """Read off torchvision's own classes; regnets cannot be made without memory, so two stand for them."""
    module = importlib.import_module("scp_ray.backbones.torchvision")
    names = [name for name in module.offered() if not name.startswith("regnet")]
    assert len(names) == 80 - 15 - 12 - 2  # torchvision's; regnets; transformers (5 ViT, 6 Swin, MaxViT); SqueezeNets
    for name in [*names, "regnet_x_400mf", "regnet_y_400mf"]:
        parts = list(Torchvision(name).sketch(3).modules())
        assert not any("Attention" in type(part).__name__ for part in parts), name
        assert [part for part in parts if isinstance(part, nn.Linear)][-1].out_features == 3, name


def test_the_model_is_part_of_what_identifies_a_backbone():
    assert spec_of(Torchvision("resnet50")) == {"name": "torchvision", "model": "resnet50", "weights": "none"}
    assert Torchvision("resnet50", "w.pt").weights == str(Path("w.pt").absolute())
    assert Torchvision("resnet50").outline(3, image_size=64).name == "torchvision resnet50"


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
    expected = [
        PrunableLayer(1, "stem", 6, ("stem_norm", "depthwise_norm"), ("depthwise",)),
        PrunableLayer(2, "wide", 8, ("late_norm",)),
        PrunableLayer(3, "last", 5, ()),
        PrunableLayer(4, "side", 5, ()),
    ]
    assert list(layers_of(UsersNet())) == expected
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
