from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from scp_ray.criteria.base import criteria
from scp_ray.errors import ScoreError
from scp_ray.maths.masks import mask_channels_
from scp_ray.parts import Batch, Learner, PrunableLayer

TAYLOR, GAP = criteria.get("taylor")(), criteria.get("gap-taylor")()


def stream(seed):
    return torch.Generator().manual_seed(seed)


def learner_of(*, inplace=False, norm=True, bias=True):
    """Two convs with norm, dropout and ReLU; the second conv, of 5 channels, is the layer. In training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        second = nn.Conv2d(4, 5, 3, padding=1, stride=2, bias=bias)
        between = [nn.BatchNorm2d(5)] if norm else []
        head = [nn.ReLU(inplace=inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(5, 3)]
        first = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)]
        network = nn.Sequential(*first, second, *between, *head)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 2)
                nn.init.uniform_(part.weight, 0.5, 2)
                nn.init.uniform_(part.bias, 0, 1)
    layer = PrunableLayer(1, "4", 5, ("5",) if norm else ())
    return Learner(network.double(), (layer,))


def batches_of(count=23, size=8, *, seed=0, groups=2):
    generator = stream(seed)
    image = torch.randn(count, 3, 7, 7, generator=generator, dtype=torch.float64) * 3
    label = torch.randint(3, (count,), generator=generator)
    group = torch.randint(groups, (count,), generator=generator)
    parts = (x.split(size) for x in (image, label, group, group[:, None]))
    return [Batch(*batch) for batch in zip(*parts, strict=True)]


def whole(batches):
    return Batch(*(torch.cat(part) for part in zip(*batches, strict=True)))


def weight_times_gradient(learner, loss):
    """(C,): sum over a channel's weights and bias of weight times gradient, by autograd on the parameters."""
    conv = learner.network[4]
    own = [conv.weight] + ([conv.bias] if conv.bias is not None else [])
    gradients = torch.autograd.grad(loss, own)
    return sum((w * g).reshape(len(w), -1).sum(1) for w, g in zip(own, gradients, strict=True)).detach()


def losses_of(learner, batch):
    return functional.cross_entropy(learner.eval()(batch.image, batch.group), batch.label, reduction="none")


def gap_of(losses, codes):
    means = torch.stack([losses[codes == code].mean() for code in codes.unique()])
    return means.max() - means.min()


@pytest.mark.parametrize("options", [{}, {"inplace": True, "norm": False}, {"bias": False}])
def test_taylor_is_weight_times_gradient(options):
    """In float64, also where the ReLU after the conv works in place. Uneven batches: every sample counts equally."""
    learner, batches = learner_of(**options), batches_of()
    oracle = copy.deepcopy(learner).eval()
    expected = weight_times_gradient(oracle, losses_of(oracle, whole(batches)).mean()).abs()
    assert expected.min() > 1e-5
    assert TAYLOR.score(learner, learner.layers[0], batches).tolist() == pytest.approx(expected.tolist(), rel=1e-6)


def test_taylor_is_no_mean_of_absolute_values():
    """One batch's and the next one's changes cancel: two samples of one image and opposite labels, at equal odds."""
    learner = learner_of(norm=False)
    with torch.no_grad():
        learner.network[-1].weight.copy_(torch.tensor([[1.0], [-1], [0]]).expand(3, 5))
        learner.network[-1].bias.copy_(torch.tensor([0.0, 0, -50]))
        learner.network[4].weight.zero_()
        learner.network[4].bias.copy_(torch.tensor([1.0, 2, -4, 0.5, 0]))
        learner.network[-1].weight[:, 1] *= -1
        learner.network[-1].weight[:, 3] *= -2  # features 1, 2, 0, 0.5, 0: logits 1 - 2 + 0 - 1 = -2, then moved to 0
        learner.network[-1].bias[:2] += torch.tensor([2.0, -2])
    image = torch.rand(1, 3, 7, 7, dtype=torch.float64, generator=stream(0)).expand(2, 3, 7, 7)
    codes = torch.tensor([0, 1])
    batch = Batch(image, codes, codes, codes[:, None])
    halves = [Batch(*(part[i : i + 1] for part in batch)) for i in range(2)]
    assert TAYLOR.score(learner, learner.layers[0], halves).tolist() == pytest.approx([0] * 5, abs=1e-12)
    # one sample alone, label 0: dL/dlogits = (-1/2, 1/2), dL/dfeature = -w, so A = -feature * w
    alone = TAYLOR.score(learner, learner.layers[0], halves[:1])
    assert alone.tolist() == pytest.approx([1, 2, 0, 1, 0], abs=1e-7)


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_gap_taylor_is_weight_times_the_gradient_of_the_gap(groups, seed):
    """-sum w d(gap)/dw, the gap being the largest minus the smallest mean loss, by autograd on the parameters."""
    learner, batches = learner_of(inplace=True, norm=False), batches_of(29, seed=seed, groups=groups)
    oracle, everything = copy.deepcopy(learner).eval(), whole(batches)
    gap = gap_of(losses_of(oracle, everything), everything.group)
    expected = -weight_times_gradient(oracle, gap)
    assert expected.abs().min() > 1e-6
    assert GAP.score(learner, learner.layers[0], batches).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_gap_taylor_foretells_what_a_small_step_towards_removal_does(flip):
    """A channel at 1 - h of itself changes the gap by h times its score, whichever group is worse off."""
    learner, batches = learner_of(), batches_of(31, seed=4)
    batches = [batch._replace(group=1 - batch.group) for batch in batches] if flip else batches
    everything, step = whole(batches), 1e-5
    scores = GAP.score(learner, learner.layers[0], batches)
    for channel in range(5):
        gaps = []
        for factor in (1 - step, 1 + step):
            scaled = copy.deepcopy(learner)
            with torch.no_grad():
                scaled.network[4].weight[channel] *= factor
                scaled.network[4].bias[channel] *= factor
                gaps.append(gap_of(losses_of(scaled, everything), everything.group).item())
        assert scores[channel].item() == pytest.approx((gaps[0] - gaps[1]) / (2 * step), rel=1e-4), channel


def test_removing_the_channel_that_misleads_one_group_narrows_the_gap():
    """Planted: green, bright in group 1 alone, speaks against the true class there; blue, bright there too, for it."""
    conv, generator = nn.Conv2d(3, 3, 1, bias=False), stream(1)
    network = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[:, :, None, None])
        network[-1].weight.copy_(torch.tensor([[1.0, -1.5, 0.5], [-1.0, 1.5, -0.5]]))
        network[-1].bias.zero_()
    group = torch.arange(64) % 2
    image = torch.rand(64, 3, 4, 4, generator=generator) * 0.1
    image[:, 0] += 0.8
    image[group == 1, 1:] += 0.7
    batch = Batch(image, torch.zeros(64, dtype=torch.long), group, group[:, None])
    learner = Learner(network, (PrunableLayer(1, "0", 3, ()),))
    before = gap_of(losses_of(learner, batch), group)
    scores = GAP.score(learner, learner.layers[0], [batch])
    assert scores.argmin() == 1
    assert scores[1] < -0.1
    assert scores[2] > 0.1
    for channel, narrows in ((1, True), (2, False)):
        pruned = copy.deepcopy(learner)
        mask_channels_(pruned.network[0], [], [channel])
        assert (gap_of(losses_of(pruned, batch), group) < before) == narrows


class Counting(Learner):
    """Counts its forward passes and keeps the groups it was given."""

    passes = 0
    heard = ()

    def forward(self, image, group=None):
        self.passes += 1
        self.heard = (*self.heard, group)
        return super().forward(image, group)


def test_one_pass_serves_all_labellings():
    """Row r is the gap's gradient under labelling r; each batch is forwarded once, with its own groups.

    Labelling 2 has three codes, the others lack one of them; 130 labellings make several blocks.
    """
    plain, batches = learner_of(), batches_of(30)
    learner = Counting(plain.network, plain.layers)
    group = torch.randint(2, (130, 30), generator=stream(3))
    group[2] = torch.randint(3, (30,), generator=stream(5)) + 4
    scores = GAP.score(learner, learner.layers[0], batches, group=group)
    assert (scores.shape, learner.passes) == ((130, 5), len(batches))
    assert all(torch.equal(heard, batch.group) for heard, batch in zip(learner.heard, batches, strict=True))
    oracle = copy.deepcopy(plain).eval()
    for row in (0, 1, 2, 63, 64, 129):
        expected = -weight_times_gradient(oracle, gap_of(losses_of(oracle, whole(batches)), group[row]))
        assert scores[row].tolist() == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-9), row
    before = learner.passes
    rows = TAYLOR.score(learner, learner.layers[0], batches, group=group)
    assert learner.passes == before + len(batches)
    assert torch.equal(rows, TAYLOR.score(learner, learner.layers[0], batches).expand(130, 5))


def test_equal_losses_make_no_gap():
    """Both groups hold the same two images: the gap is 0, and so is every channel's part in it."""
    learner, batch = learner_of(), batches_of(2, 2)[0]
    twice = Batch(*(torch.cat([part, part]) for part in batch))._replace(group=torch.tensor([0, 0, 1, 1]))
    assert GAP.score(learner, learner.layers[0], [twice]).abs().max() < 1e-12


@pytest.mark.parametrize("criterion", [TAYLOR, GAP])
def test_a_masked_channel_scores_exactly_zero(criterion):
    learner, batches = learner_of(), batches_of()
    mask_channels_(learner.network[4], [learner.network[5]], [1, 3])
    scores = criterion.score(learner, learner.layers[0], batches)
    assert (scores == 0).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("criterion", [TAYLOR, GAP])
def test_gradients_that_were_there_stay(criterion):
    """Scored after a backward pass and before its step, under no_grad, and with frozen parameters."""
    learner, batches = learner_of(), batches_of()
    expected = criterion.score(learner, learner.layers[0], batches)
    learner.eval().loss(batches[0]).backward()
    gradients = {name: (p.grad, p.grad.clone()) for name, p in learner.named_parameters()}
    with torch.no_grad():
        assert torch.equal(criterion.score(learner, learner.layers[0], batches), expected)
        assert not torch.is_grad_enabled()
    for name, parameter in learner.named_parameters():
        assert parameter.grad is gradients[name][0]
        assert torch.equal(parameter.grad, gradients[name][1])
    learner.requires_grad_(False)
    assert torch.equal(criterion.score(learner, learner.layers[0], batches), expected)
    assert not any(parameter.requires_grad for parameter in learner.parameters())


class Twice(Learner):
    """Asks its network about the image and its mirror image."""

    def forward(self, image, group=None):
        return self.network(image) + self.network(image.flip(3))


class ByGroup(Learner):
    """Passes each group by itself."""

    def forward(self, image, group=None):
        return torch.cat([self.network(image[group == code]) for code in (0, 1)])


class Failing(Learner):
    """Breaks down after its layer."""

    def forward(self, image, group=None):
        self.network(image)
        raise OSError("lost")


def test_a_layer_that_is_passed_twice():
    plain, batches = learner_of(), batches_of()
    learner, oracle = Twice(plain.network, plain.layers), Twice(copy.deepcopy(plain.network), plain.layers).eval()
    expected = weight_times_gradient(oracle, losses_of(oracle, whole(batches)).mean()).abs()
    assert TAYLOR.score(learner, learner.layers[0], batches).tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize("criterion", [TAYLOR, GAP])
@pytest.mark.parametrize(("kind", "error"), [(ByGroup, RuntimeError), (Failing, OSError)])
def test_what_fails_leaves_no_trace(criterion, kind, error):
    plain = learner_of()
    learner = kind(plain.network, plain.layers).train()
    with pytest.raises(error, match="reached layer 4 with" if error is RuntimeError else "lost"):
        criterion.score(learner, learner.layers[0], batches_of())
    assert all(part.training for part in learner.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in learner.modules())
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_what_cannot_be_scored():
    learner, batches = learner_of(), batches_of(16)
    for criterion in (TAYLOR, GAP):
        with pytest.raises(ScoreError, match="no scoring batch"):
            criterion.score(learner, learner.layers[0], [])
    alone = [batch._replace(group=torch.ones_like(batch.group)) for batch in batches]
    with pytest.raises(ScoreError, match="all of one group"):
        GAP.score(learner, learner.layers[0], alone)
    group = torch.stack([torch.arange(16) % 2, torch.full((16,), 2)])
    with pytest.raises(ScoreError, match="all of one group"):
        GAP.score(learner, learner.layers[0], batches, group=group)
    for wrong, said in ((group[:, :15], "N = 16 samples, got .2, 15."), (group[0], "got .16,.")):
        with pytest.raises(ValueError, match=said):
            GAP.score(learner, learner.layers[0], batches, group=wrong)
