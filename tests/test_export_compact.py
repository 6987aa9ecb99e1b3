"""What an exported model is: the learner's answers, at the size that arithmetic gives; what can shrink and what not."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from every_method import METHODS, config
from torch import Tensor, nn

from scp_ray.backbones.layers import find_layer, trace_layers
from scp_ray.export.compact import compact_, counts_of
from scp_ray.export.cost import size_of
from scp_ray.export.model import Classifier, classifier_of
from scp_ray.export.rebuild import architecture_of, build, empty
from scp_ray.maths.masks import mask_channels_
from scp_ray.parts import Learner

SIZES = {"tiny": 64, "vgg11": 32, "vgg11-bn": 32, "resnet18": 32}


def learner_of(backbone: str, method: Any = "vanilla", classes: int = 3, size: int | None = None) -> Learner:
    """Random weights, and norms as training would leave them: with shifts and statistics of their own."""
    architecture = {"backbone": {"name": backbone, "weights": "none"}, "method": {"name": method}, "groups": 2}
    architecture = architecture | (method if isinstance(method, dict) else {})
    learner = build(architecture | {"num_classes": classes, "image_size": size or SIZES[backbone]})
    random = torch.Generator().manual_seed(1)
    for part in learner.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.weight, part.bias, part.running_mean):
                values.data.uniform_(0.2, 0.9, generator=random)
            part.running_var.uniform_(0.5, 2, generator=random)
    return learner.eval()


def mask_(learner: Learner, layer: int | str, channels: list[int], *, bias: bool = True) -> str:
    found, network = find_layer(learner.layers, layer), learner.network
    norms = [network.get_submodule(name) for name in found.norms]
    mask_channels_(network.get_submodule(found.name), norms, channels, bias=bias)
    return found.name


def images(size: int, count: int = 6) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def answers(learner: Learner, image: Tensor, group: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return learner.predict(image, group)[0]


def compacted(learner: Learner, size: int) -> tuple[Classifier, list[Any]]:
    classifier = classifier_of(learner, size)
    return classifier, compact_(classifier, learner.layers, classifier.inputs(images(size, 2), torch.tensor([0, 1])))


WIDTHS = (3, 16, 16, 32, 32, 64, 64, 64, 64)
SIDES = (32, 32, 16, 16, 8, 8, 4, 4)  # of the maps that tiny's convolutions make of 64 px


def test_parameters_and_multiply_accumulates_of_tiny_by_hand() -> None:
    """A convolution without bias has 9 a b weights and takes 9 a b side^2; a norm has 2 b; the last layer 64 K + K."""
    pairs = list(itertools.pairwise(WIDTHS))
    weights = sum(9 * a * b + 2 * b for a, b in pairs) + 64 * 3 + 3
    macs = sum(9 * a * b * side**2 for (a, b), side in zip(pairs, SIDES, strict=True)) + 64 * 3
    found = size_of(classifier_of(learner_of("tiny"), 64), (images(64, 1),))
    assert (found.parameters, found.nonzero, found.macs) == (weights, weights, macs)


def test_what_removing_channels_of_tiny_saves_by_hand() -> None:
    """Layer 6 is 64 to 64 on an 8 x 8 map; 5 channels take 9 64 5 weights of it, 10 of its norm, 9 5 64 of the next,
    which makes a 4 x 4 map.
    """
    learner = learner_of("tiny")
    mask_(learner, 6, [0, 7, 8, 30, 63])
    before = size_of(classifier_of(learner, 64), (images(64, 1),))
    classifier, layers = compacted(learner, 64)
    after = size_of(classifier, (images(64, 1),))
    assert before.parameters - after.parameters == 9 * 64 * 5 + 10 + 9 * 5 * 64
    assert before.macs - after.macs == 9 * 64 * 5 * 8**2 + 9 * 5 * 64 * 4**2
    assert before.parameters - before.nonzero == 9 * 64 * 5 + 10
    assert [(layer.channels, layer.masked, layer.removed) for layer in layers] == [(64, 5, 5)]
    torch.testing.assert_close(classifier(images(64)), answers(learner, images(64)), atol=1e-5, rtol=1e-5)


def test_vgg11_loses_the_columns_of_its_first_linear_layer() -> None:
    """49 values a channel go into the first linear layer, of 4,096 rows; without norms the biases end the channel."""
    learner = learner_of("vgg11")
    name = mask_(learner, -1, [3, 500])
    classifier, layers = compacted(learner, 32)
    counts = counts_of(classifier.learner)
    assert name == "features.18" and counts["network.features.18"]["out_channels"] == 510
    assert counts["network.classifier.0"]["in_features"] == 25088 - 2 * 49
    assert [layer.removed for layer in layers] == [2]
    torch.testing.assert_close(classifier(images(32)), answers(learner, images(32)), atol=1e-5, rtol=1e-5)


def test_a_channel_that_keeps_its_bias_is_not_removed() -> None:
    """``mask: released``: the channel still gives a constant, which the next layer sees."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    learner = Learner(network.append(nn.Linear(4, 2)), trace_layers(network, images(16, 1)))
    network[0].bias.data[:] = torch.tensor([0.5, 0.5, 0.0, *[0.5] * 5])
    mask_(learner, 1, [0, 2], bias=False)
    classifier, layers = compacted(learner, 16)
    assert [(layer.masked, layer.removed) for layer in layers] == [(2, 1)] and "keeps its bias" in layers[0].reason
    assert counts_of(classifier.learner)["network.0"]["out_channels"] == 7
    torch.testing.assert_close(classifier(images(16)), answers(learner, images(16)), atol=1e-5, rtol=1e-5)


def test_in_resnet18_the_inner_convolution_shrinks_and_the_coupled_one_stays() -> None:
    """layer4.1.conv2 adds to what the block before gives: its norm is silent, the shortcut carries the channel on."""
    learner = learner_of("resnet18")
    inner = mask_(learner, "layer4.1.conv1", [0, 1, 2, 511])
    mask_(learner, "layer4.1.conv2", [5, 6])
    classifier, layers = compacted(learner, 32)
    by_name = {layer.layer: layer for layer in layers}
    assert by_name[inner].removed == 4 and by_name[inner].reason == ""
    coupled = by_name["layer4.1.conv2"]
    assert coupled.masked == 2 and coupled.removed == 0
    assert "layer4.0.downsample.0" in coupled.reason and "layer4.0.conv2" in coupled.reason
    counts = counts_of(classifier.learner)
    assert counts["network.layer4.1.conv1"]["out_channels"] == counts["network.layer4.1.conv2"]["in_channels"] == 508
    assert counts["network.layer4.1.conv2"]["out_channels"] == counts["network.fc"]["in_features"] == 512
    torch.testing.assert_close(classifier(images(32)), answers(learner, images(32)), atol=1e-5, rtol=1e-5)


def test_norms_over_all_channels_keep_them() -> None:
    """What a layer norm makes of the others depends on the masked ones' zeros."""
    learner = learner_of("tiny")
    learner.network[22] = nn.GroupNorm(4, 64)
    mask_(learner, 8, [1, 2])
    _, layers = compacted(learner, 64)
    assert layers[0].removed == 0 and "normalises over several channels" in layers[0].reason


@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_as_its_learner(name: str) -> None:
    """Whole and compact; those that need the group get it as a second input."""
    asked = config(name)
    learner = build(architecture_of(asked, 3, 2)).eval()
    mask_(learner, -1, [2, 9, 40])
    image, group = images(64), torch.tensor([0, 1, 1, 0, 1, 0])
    expected = answers(learner, image, group)
    whole = classifier_of(learner, 64)
    assert whole.needs_group == (name == "fair-adabn")
    torch.testing.assert_close(whole(*whole.inputs(image, group)), expected, atol=1e-5, rtol=1e-5)
    small, layers = compacted(learner, 64)
    assert [layer.removed for layer in layers] == [3]
    torch.testing.assert_close(small(*small.inputs(image, group)), expected, atol=1e-5, rtol=1e-5)
    assert not any("adversary" in key for key in small.learner.state_dict())


def test_an_unknown_group_goes_where_training_sent_it() -> None:
    learner = learner_of("tiny", "fair-adabn")
    torch.nn.init.uniform_(learner.network[22].branches[1].bias)
    whole, image = classifier_of(learner, 64), images(64, 2)
    known = whole(image, torch.tensor([1, 0]))
    assert torch.equal(whole(image, torch.tensor([-1, 0])), known)
    assert not torch.allclose(whole(image, torch.tensor([0, 0])), known)


def test_single_masked_weights_stay_as_zeros() -> None:
    """Unstructured masks take no channel away."""
    from scp_ray.maths.masks import mask_parameter_

    learner = learner_of("tiny")
    keep = torch.ones(64, 64, 3, 3, dtype=torch.bool)
    keep[:, :32] = False
    mask_parameter_(learner.network[21], "weight", keep)
    classifier, layers = compacted(learner, 64)
    found = size_of(classifier, (images(64, 1),))
    assert layers == [] and found.parameters - found.nonzero == 64 * 32 * 9
    assert torch.equal(classifier(images(64)), answers(learner, images(64)))


def test_the_learner_that_is_exported_stays_as_it_was() -> None:
    learner = learner_of("tiny")
    mask_(learner, -1, [1, 2])
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    compacted(learner, 64)
    assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())
    assert len(before) == len(learner.state_dict()) and bool((learner.network[21].weight[1] == 0).all())


def test_a_compact_architecture_is_built_again_from_its_description() -> None:
    learner = learner_of("resnet18")
    mask_(learner, "layer3.0.conv1", [4, 5])
    classifier, _ = compacted(learner, 32)
    full = counts_of(classifier_of(learner, 32).learner)
    counts = {name: now for name, now in counts_of(classifier.learner).items() if now != full[name]}
    content = {"constants": {}, "channels": counts}
    content["architecture"] = {
        **{"backbone": {"name": "resnet18", "weights": "none"}, "method": {"name": "vanilla"}},
        **{"groups": 2, "num_classes": 3, "image_size": 32},
    }
    again = empty(content)
    again.learner.load_state_dict(classifier.learner.state_dict())
    assert torch.equal(again(images(32)), classifier(images(32)))
    assert set(counts) == {"network.layer3.0.conv1", "network.layer3.0.bn1", "network.layer3.0.conv2"}


@pytest.mark.parametrize("kind", ["torch-export", "onnx"])
@pytest.mark.parametrize("name", ["fair-adabn", "domain-indep", "me-fairprune"])
def test_methods_that_answer_in_their_own_way_as_files(name: str, kind: str, tmp_path: Path) -> None:
    """A group as second input, heads that decide together, exits: in a batch of another size than the example's."""
    from scp_ray.export.formats import format_named

    learner = build(architecture_of(config(name), 3, 2)).eval()
    mask_(learner, -1, [2, 9, 40])
    small, _ = compacted(learner, 64)
    image, group = images(64, 5), torch.tensor([0, 1, 1, 0, 1])
    form, inputs = format_named(kind), small.inputs(image, group)
    form.write(small, tmp_path / form.file, tuple(part[:2] for part in inputs))
    found = form.read(tmp_path / form.file, {})(*inputs)
    torch.testing.assert_close(found.detach(), answers(learner, image, group), atol=1e-5, rtol=1e-5)
