from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scp_ray.criteria.base import criteria
from scp_ray.errors import ScoreError
from scp_ray.maths.masks import mask_channels_
from scp_ray.parts import Batch, Learner, PrunableLayer

ACTIVATION = criteria.get("activation")()


def learner_of(weight, bias, *after):
    conv = nn.Conv2d(3, len(bias), 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(weight)[:, :, None, None])
        conv.bias.copy_(torch.tensor(bias))
    network = nn.Sequential(conv, *after, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(len(bias), 2))
    return Learner(network, (PrunableLayer(1, "0", len(bias), ()),))


def batches_of(image, size):
    codes = torch.arange(len(image)) % 2
    parts = (x.split(size) for x in (image, codes, codes, codes[:, None]))
    return [Batch(*batch) for batch in zip(*parts, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("after", [(), (nn.ReLU(inplace=True),), (nn.BatchNorm2d(3), nn.ReLU())])
def test_by_hand(after, size):
    """Red of three images of two pixels: (1, -1), (2, 0), (0, 0). Mean size 4/6, in batches of any size.

    Channel 0 is red, so 2/3 though its mean is 1/3. Channel 1 is -2 red + 1: |-1|, 3; |-3|, 1; 1, 1, mean 10/6.
    Channel 2 is -5 throughout, which a ReLU would hide.
    """
    learner = learner_of([[1.0, 0, 0], [-2, 0, 0], [0, 0, 0]], [0.0, 1, -5], *copy.deepcopy(after))
    image = torch.zeros(3, 3, 1, 2)
    image[:, 0, 0] = torch.tensor([[1.0, -1], [2, 0], [0, 0]])
    scores = ACTIVATION.score(learner, learner.layers[0], batches_of(image, size))
    assert scores.tolist() == pytest.approx([2 / 3, 5 / 3, 5], rel=1e-6)


def test_faintest_channel_first_and_a_masked_one_is_zero():
    generator = torch.Generator().manual_seed(0)
    gains = torch.tensor([3.0, -0.01, 1, -2])
    weight = (torch.randn(1, 3, generator=generator) * gains[:, None]).tolist()
    learner = learner_of(weight, [0.0] * 4)
    batches = batches_of(torch.randn(10, 3, 4, 4, generator=generator), 4)
    scores = ACTIVATION.score(learner, learner.layers[0], batches)
    assert scores.argsort().tolist() == [1, 2, 3, 0]
    assert (scores / scores[2]).tolist() == pytest.approx([3, 0.01, 1, 2], rel=1e-5)
    mask_channels_(learner.network[0], [], [3])
    assert ACTIVATION.score(learner, learner.layers[0], batches)[3] == 0


def test_labellings_do_not_matter():
    learner = learner_of([[1.0, 0, 0], [0, 1, 0]], [0.0, 0])
    batches = batches_of(torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(1)), 4)
    one = ACTIVATION.score(learner, learner.layers[0], batches)
    rows = ACTIVATION.score(learner, learner.layers[0], batches, group=torch.ones(3, 6, dtype=torch.long))
    assert torch.equal(rows, torch.stack([one] * 3))


def test_nothing_to_score():
    learner = learner_of([[1.0, 0, 0]], [0.0])
    with pytest.raises(ScoreError, match="no scoring batch"):
        ACTIVATION.score(learner, learner.layers[0], [])
