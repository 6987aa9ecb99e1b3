from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from scp_ray.criteria.base import criteria
from scp_ray.errors import ScoreError, UnknownNameError
from scp_ray.parts import Batch, Learner, PrunableLayer

WIDTH = 8


def stream(seed):
    return torch.Generator().manual_seed(seed)


def learner_of(weight, *, bias=None):
    """Conv with the given weight, norm, ReLU and head; the conv is the layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        channels, size = weight.shape[0], weight.shape[-1]
        conv, norm = nn.Conv2d(3, channels, size), nn.BatchNorm2d(channels)
        network = nn.Sequential(conv, norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(torch.zeros(channels) if bias is None else bias)
    return Learner(network, (PrunableLayer(1, "0", channels, ("1",)),))


def planted_learner(offset=3.0):
    """Channels 3 and 7 copy red, 7 with another sign and size; the others mix green and blue.

    ``offset`` is how far apart the channels' biases lie.
    """
    weight = torch.randn(WIDTH, 3, 1, 1, generator=stream(5))
    weight[:, 0] = 0
    weight[3] = torch.tensor([1.0, 0, 0])[:, None, None]
    weight[7] = torch.tensor([-0.01, 0, 0])[:, None, None]
    return learner_of(weight, bias=torch.linspace(-offset, offset, WIDTH))


def images_of(group, generator):
    """Noise; the red left half is bright in group 0 and the red right half in group 1."""
    image = torch.rand(len(group), 3, 8, 8, generator=generator)
    image[:, 0] *= 0.4
    image[group == 0, 0, :, :4] += 0.6
    image[group == 1, 0, :, 4:] += 0.6
    return image


def batches_of(image, group, size):
    label = torch.arange(len(group)) % 2
    parts = (x.split(size) for x in (image, label, group, group[:, None]))
    return [Batch(*batch) for batch in zip(*parts, strict=True)]


def scoring_set(*, count=128, size=32, seed=0, planted=True):
    generator = stream(seed)
    group = (torch.rand(count, generator=generator) < 0.3).long()
    image = images_of(group, generator) if planted else torch.rand(count, 3, 8, 8, generator=generator)
    return batches_of(image, group, size)


@pytest.mark.parametrize(("name", "offset"), [("snnl", 3.0), ("snnl-released", 0.0)])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_the_two_channels_that_show_the_group_are_lowest(name, offset, size):
    """Planted: whatever the size and sign of their maps, and before the ReLU that would hide channel 7.

    An offset plays no part in the paper's form. In the released one it does (it turns all maps the same way).
    """
    learner = planted_learner(offset)
    scores = criteria.get(name)().score(learner, learner.layers[0], scoring_set(size=size))
    assert set(scores.argsort()[:2].tolist()) == {3, 7}
    others = [channel for channel in range(WIDTH) if channel not in (3, 7)]
    assert scores[[3, 7]].max() < scores[others].min()


def chance_bound(trials, channels, alpha):
    """The smallest m with channels x P(Binomial(trials, 1 / channels) >= m) <= alpha."""
    p = 1 / channels

    def tail(m):
        return sum(math.comb(trials, i) * p**i * (1 - p) ** (trials - i) for i in range(m, trials + 1))

    return next(m for m in range(trials + 1) if channels * tail(m) <= alpha)


def test_chance_bound():
    """P(Bin(20, 1/8) >= 8) = 1.85e-3, times 8 channels 1.5e-2; from 9 on 3.4e-4 x 8 = 2.7e-3."""
    assert chance_bound(20, 8, 0.01) == 9


def test_no_channel_is_favoured_where_none_shows_the_group():
    """Channels of one distribution, up to gains of 1e-3..1e3 and offsets that stay in place over the 20 seeds.

    Filters, images and groups are drawn anew for each seed, so each channel is lowest with probability 1/8. By
    the binomial tail with Bonferroni over the 8 channels, one is lowest 9 times or more with probability < 0.01.
    """
    gains = torch.logspace(-3, 3, WIDTH)
    lowest = torch.zeros(WIDTH, dtype=torch.long)
    for seed in range(20):
        weight = torch.randn(WIDTH, 3, 3, 3, generator=stream(1000 + seed)) * gains[:, None, None, None]
        learner = learner_of(weight, bias=torch.linspace(-10, 10, WIDTH))
        scores = criteria.get("snnl")().score(learner, learner.layers[0], scoring_set(seed=seed, planted=False))
        lowest[scores.argmin()] += 1
    assert lowest.max() < chance_bound(20, WIDTH, 0.01), lowest.tolist()


def test_score_by_hand():
    """Red is on in the left pixel (e1) or the right one (e2): e1, e2, e1, e2 in groups 0, 1, 0, 1, then 0, 0, 1, 1.

    methods.md 11.5, T = 1: 0.239545 and 2.239545; the mean over the two batches is 1.239545. Auto: 1.118981.
    """
    learner = learner_of(torch.tensor([1.0, 0, 0])[None, :, None, None])
    image = torch.zeros(8, 3, 1, 2)
    image[torch.arange(8), 0, 0, torch.arange(8) % 2] = 1
    batches = batches_of(image, torch.tensor([0, 1, 0, 1, 0, 0, 1, 1]), 4)
    snnl, released = criteria.get("snnl"), criteria.get("snnl-released")
    score = snnl(temperature=1.0).score(learner, learner.layers[0], batches)
    assert score.tolist() == pytest.approx([1.239545], abs=1e-6)
    assert snnl().score(learner, learner.layers[0], batches).tolist() == pytest.approx([1.118981], abs=1e-6)
    # released: (-0.141702 + 0.238183) / 2
    score = released().score(learner, learner.layers[0], batches)
    assert score.tolist() == pytest.approx([0.0482405], abs=1e-6)


@pytest.mark.parametrize("name", ["snnl", "snnl-released"])
def test_a_batch_that_cannot_tell_the_groups_apart_is_left_out(name):
    """One group alone, one sample alone, or a pair of two groups: the mean is that of the other batches."""
    learner, criterion = planted_learner(), criteria.get(name)()
    good = scoring_set(count=64, size=32)
    image = torch.rand(8, 3, 8, 8, generator=stream(3))
    one_group = batches_of(image, torch.ones(8, dtype=torch.long), 8)
    alone, pair = batches_of(image[:1], torch.tensor([1]), 1), batches_of(image[:2], torch.tensor([0, 1]), 2)
    expected = criterion.score(learner, learner.layers[0], good)
    mixed = [*one_group, good[0], *pair, good[1], *alone]
    assert torch.equal(criterion.score(learner, learner.layers[0], mixed), expected)
    with pytest.raises(ScoreError, match="no scoring batch holds two groups"):
        criterion.score(learner, learner.layers[0], [*one_group, *alone, *pair])
    with pytest.raises(ScoreError, match="there is no scoring batch"):
        criterion.score(learner, learner.layers[0], [])


def test_batches_are_left_out_per_labelling():
    """Labelling 0 has one group in the first batch, labelling 1 in the second, labelling 2 both in both."""
    learner, criterion = planted_learner(), criteria.get("snnl")()
    batches = scoring_set(count=32, size=16)
    halves = torch.arange(16) % 2
    group = torch.stack([torch.cat([torch.zeros(16), halves]), torch.cat([halves, torch.ones(16)]), halves.repeat(2)])
    group = group.long()
    scores = criterion.score(learner, learner.layers[0], batches, group=group)
    for row, kept in zip(scores, ([batches[1]], [batches[0]], batches), strict=True):
        relabelled = [batch._replace(group=halves) for batch in kept]
        assert torch.equal(row, criterion.score(learner, learner.layers[0], relabelled))
    group[1, :16] = 0
    with pytest.raises(ScoreError):
        criterion.score(learner, learner.layers[0], batches, group=group)


def test_batches_count_equally():
    """The mean over batches, not over samples: 24 and 8 samples weigh the same."""
    learner, criterion = planted_learner(), criteria.get("snnl")()
    batches = scoring_set(count=32, size=24)
    alone = [criterion.score(learner, learner.layers[0], [batch]).double() for batch in batches]
    together = criterion.score(learner, learner.layers[0], batches)
    torch.testing.assert_close(together.double(), (alone[0] + alone[1]) / 2, rtol=1e-6, atol=0)


def test_defaults_of_the_two_forms():
    """methods.md 11.1: the paper's form on one permutation; the released form in table order, last batch dropped."""
    paper, released = criteria.get("snnl")(), criteria.get("snnl-released")()
    assert (paper.batch_size, paper.order, paper.last_batch) == (128, "permuted", "half")
    assert (released.batch_size, released.order, released.last_batch) == (128, "table", "drop")


def test_magnitude_by_hand():
    """Absolute weights, not signed ones and not their squares; the bias does not count."""
    weight = torch.tensor([[3.0, 0, 0], [-1, -1, -0.5], [2, -2, 2], [0, 0, 0]])[:, :, None, None]
    learner = learner_of(weight, bias=torch.tensor([0.0, 0, 0, 100]))
    scores = criteria.get("magnitude")().score(learner, learner.layers[0], [])
    assert scores.tolist() == [3.0, 2.5, 6.0, 0.0]


def test_random_ranks_by_a_permutation_per_seed():
    random = criteria.get("random")
    learner = planted_learner()
    first, again, other = (random(seed=s).score(learner, learner.layers[0], []) for s in (1, 1, 2))
    assert sorted(first.tolist()) == sorted(other.tolist()) == list(range(WIDTH))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    moved = PrunableLayer(1, "elsewhere", WIDTH, ())
    assert not torch.equal(random(seed=1).score(learner, moved, []), first)


def test_random_differs_between_trial_seeds_and_others_do_not():
    learner = planted_learner()
    arms = [criteria.get("random")().seeded(seed) for seed in range(10)]
    assert len({tuple(arm.score(learner, learner.layers[0], []).tolist()) for arm in arms}) == 10
    for name in ("snnl", "snnl-released", "magnitude", "none"):
        criterion = criteria.get(name)()
        assert criterion.seeded(3) == criterion


def test_random_is_fair_over_seeds():
    """Each of 8 channels is lowest 25 times of 200 in the mean, standard deviation 4.7; within 4 of those."""
    learner = planted_learner()
    lowest = [
        int(criteria.get("random")(seed=seed).score(learner, learner.layers[0], []).argmin()) for seed in range(200)
    ]
    assert all(abs(lowest.count(channel) - 25) < 4 * 4.7 for channel in range(WIDTH))


def test_none_ranks_nothing():
    learner, none = planted_learner(), criteria.get("none")()
    assert none.prunes is False
    assert none.score(learner, learner.layers[0], scoring_set()).isnan().all()
    assert all(criteria.get(name).prunes for name in criteria.names() if name != "none")


def test_unknown_criterion():
    with pytest.raises(UnknownNameError, match=r"'snnll' not found\. Did you mean 'snnl'\?"):
        criteria.get("snnll")


@pytest.fixture(params=criteria.names())
def criterion(request):
    """Every criterion there is, with its defaults."""
    return criteria.get(request.param)()


@pytest.fixture
def deep():
    """A network whose second conv comes after dropout and norm; the first norm is frozen in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)]
        second = [nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        learner = Learner(nn.Sequential(*first, *second, nn.Linear(6, 2)), (PrunableLayer(1, "4", 6, ("5",)),))
    learner.train()
    learner.network[1].eval()
    return learner


def equal(a, b):
    return torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) and torch.equal(a.isnan(), b.isnan())


def test_contract_shape_and_repetition(criterion, deep):
    batches, layer = scoring_set(), deep.layers[0]
    scores = criterion.score(deep, layer, batches)
    assert (scores.shape, scores.dtype, scores.device.type) == ((6,), torch.float32, "cpu")
    assert not scores.requires_grad
    assert scores.isnan().all() != criterion.prunes
    assert equal(criterion.score(deep, layer, batches), scores)
    assert equal(criterion.score(deep.eval(), layer, iter(batches)), scores)


def test_contract_scoring_leaves_no_trace(criterion, deep):
    modes = [part.training for part in deep.modules()]
    state, drawn = copy.deepcopy(deep.state_dict()), torch.get_rng_state()
    for _ in range(2):
        criterion.score(deep, deep.layers[0], scoring_set())
    if criterion.plugin_name.startswith("snnl"):
        with pytest.raises(ScoreError):
            criterion.score(deep, deep.layers[0], [])
    assert [part.training for part in deep.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in deep.state_dict().items())
    assert all(parameter.grad is None for parameter in deep.parameters())
    assert all(parameter.requires_grad for parameter in deep.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in deep.modules())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_contract_several_labellings_in_one_pass(criterion, deep):
    """Row r is the score with the batches' groups replaced by labelling r, cut at the batches' edges."""
    batches, layer = scoring_set(count=80, size=32), deep.layers[0]
    group = (torch.rand(3, 80, generator=stream(9)) < torch.tensor([0.2, 0.5, 0.7])[:, None]).long()
    scores = criterion.score(deep, layer, batches, group=group)
    assert scores.shape == (3, 6)
    for row, codes in zip(scores, group, strict=True):
        relabelled = [batch._replace(group=part) for batch, part in zip(batches, codes.split(32), strict=True)]
        assert equal(row, criterion.score(deep, layer, relabelled))
    alone = criterion.score(deep, layer, batches, group=group[:1])
    assert alone.shape == (1, 6)
    assert equal(alone[0], scores[0])
