from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from scp_ray.criteria.base import criteria
from scp_ray.maths.channels import pick_significant
from scp_ray.maths.null import p_values, permuted_groups, significant
from scp_ray.maths.snnl import snnl_scores
from scp_ray.parts import Batch, Learner, PrunableLayer

WIDTH, Q = 10, 0.1


def stream(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def test_within_a_class_every_order_is_equally_likely():
    """Class 0 holds codes 0, 1, 2 and class 1 codes 5, 5, 7: 6 x 3 relabellings, 4,000 draws, chi-square."""
    label, group = torch.tensor([0, 1, 0, 1, 1, 0]), torch.tensor([0, 5, 1, 7, 5, 2])
    drawn = permuted_groups(label, group, 4000, within="class", generator=stream(0))
    assert (drawn.shape, drawn.dtype) == ((4000, 6), torch.int64)
    seen = Counter((tuple(row[label == 0].tolist()), tuple(row[label == 1].tolist())) for row in drawn)
    possible = set(itertools.product(itertools.permutations([0, 1, 2]), set(itertools.permutations([5, 5, 7]))))
    assert set(seen) == possible
    assert stats.chisquare(list(seen.values())).pvalue > 0.001


def test_over_everything_every_order_is_equally_likely():
    label, group = torch.tensor([0, 1, 0, 1]), torch.tensor([3, 4, 5, 6])
    drawn = permuted_groups(label, group, 4800, within="all", generator=stream(1))
    seen = Counter(tuple(row.tolist()) for row in drawn)
    assert set(seen) == set(itertools.permutations([3, 4, 5, 6]))
    assert stats.chisquare(list(seen.values())).pvalue > 0.001


@pytest.mark.parametrize("within", ["class", "all"])
def test_group_counts_stay(within):
    generator = stream(2)
    label, group = torch.randint(7, (300,), generator=generator), torch.randint(3, (300,), generator=generator)
    state = torch.get_rng_state()
    drawn = permuted_groups(label, group, 20, within=within, generator=generator)
    assert torch.equal(torch.get_rng_state(), state)
    for row in drawn:
        assert torch.equal(row.bincount(), group.bincount())
        same = [
            torch.equal(row[label == c].bincount(minlength=3), group[label == c].bincount(minlength=3))
            for c in range(7)
        ]
        assert all(same) == (within == "class")
    assert len(torch.unique(drawn, dim=0)) == 20
    again, other = (permuted_groups(label, group, 20, within=within, generator=stream(seed)) for seed in (5, 6))
    assert torch.equal(permuted_groups(label, group, 20, within=within, generator=stream(5)), again)
    assert not torch.equal(again, other)


def test_units_stay_whole():
    """Class 0: pairs 10 and 20 change places; the triple and the single one have no partner of their size."""
    label = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    unit = torch.tensor([10, 20, 10, 20, 7, 7, 7, 3, 9, 30, 9])
    group = torch.tensor([0, 1, 0, 1, 1, 1, 1, 0, 0, 1, 0])
    drawn = permuted_groups(label, group, 200, within="class", generator=stream(3), unit=unit)
    swapped = torch.tensor([1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0])
    counts = [int((drawn == row).all(1).sum()) for row in (group, swapped)]
    assert sum(counts) == 200
    assert min(counts) > 70
    # over everything pair 9 of class 1 joins in, and the single ones 3 and 30 change places
    drawn = permuted_groups(label, group, 400, within="all", generator=stream(4), unit=unit)
    assert len(torch.unique(drawn, dim=0)) == 3 * 2
    assert all((row[unit == u] == row[unit == u][0]).all() for row in drawn for u in (10, 20, 7, 9))


def test_units_of_one_image_are_images():
    label, group = torch.randint(3, (40,), generator=stream(0)), torch.randint(2, (40,), generator=stream(1))
    unit = torch.arange(40).flip(0) * 3
    drawn = permuted_groups(label, group, 50, within="class", generator=stream(2), unit=unit)
    assert len(torch.unique(drawn, dim=0)) == 50
    assert all(torch.equal(row[label == c].bincount(), group[label == c].bincount()) for row in drawn for c in range(3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"group": torch.zeros(3, dtype=torch.long)}, r"must be \(N,\)"),
        ({"within": "batch"}, "'batch'"),
        ({"unit": torch.tensor([0, 0, 1, 1])}, "of one group"),
        ({"unit": torch.tensor([0, 1, 0, 2])}, "of one class"),
        ({"unit": torch.tensor([0, 1])}, r"must be \(N,\)"),
    ],
)
def test_relabelling_refuses(changes, words):
    arguments = {"label": torch.tensor([0, 0, 1, 1]), "group": torch.tensor([0, 1, 0, 1]), "within": "class"}
    with pytest.raises(ValueError, match=words):
        permuted_groups(count=2, generator=stream(0), **(arguments | changes))


def test_p_values_by_hand():
    """Channel 0: 0 against 1, 2, 3, so z = -1.162 against -0.387, 0.387, 1.162 (mean 1.5, deviation 1.291).

    Channel 1: 2 against 1, 2, 3, so z = 0 against -1.225, 0, 1.225. Pooled at or below -1.162: 1, below 0: 3.
    """
    null = torch.tensor([[1.0, 3], [3, 1], [2, 2]])
    assert p_values(torch.tensor([0.0, 2]), null).tolist() == pytest.approx([2 / 7, 4 / 7])
    # by the channel alone: 1 / 4, and at or below 2: (1 + 2) / 4
    for channel, expected in ((0, 1 / 4), (1, 3 / 4)):
        alone = p_values(torch.tensor([0.0, 2])[[channel]], null[:, [channel]])
        assert alone.tolist() == pytest.approx([expected])


def test_p_values_ignore_each_channels_place_and_scale():
    null, observed = normal(30, 6), normal(6, seed=1) - 1
    gain, shift = 10.0 ** torch.arange(-4, 2), torch.arange(6) * 7 - 20.0
    expected = p_values(observed, null)
    assert torch.equal(p_values(observed * gain + shift, null * gain + shift), expected)
    assert expected.unique().numel() > 3


def test_a_null_without_spread_says_nothing():
    """p = 1, though the observed score lies far below; the pool is that of the other channels (2 x 20)."""
    null, observed = normal(20, 4).float(), torch.tensor([-50.0, -50, -50, 0])
    null[:, 0], null[:, 2] = 0.0, 0.7 * (1 + 1e-7 * torch.randn(20, generator=stream(3)))
    p = p_values(observed, null)
    assert p[[0, 2]].tolist() == [1, 1]
    assert torch.equal(p[[1, 3]], p_values(observed[[1, 3]], null[:, [1, 3]]))
    assert p[1].item() == pytest.approx(1 / 41)
    assert p_values(observed, torch.ones(5, 4)).tolist() == [1] * 4


def test_spare_channels_are_no_part_of_the_pool():
    null, observed = normal(15, 5), normal(5, seed=2)
    expected = p_values(observed[[0, 2, 4]], null[:, [0, 2, 4]])
    null[:, 1], observed[3] = torch.nan, torch.inf
    p = p_values(observed, null, spare=torch.tensor([1, 3]))
    assert p[[1, 3]].tolist() == [1, 1]
    assert torch.equal(p[[0, 2, 4]], expected)
    assert p_values(observed, null, spare=range(5)).tolist() == [1] * 5
    for spare in ([1], [3]):
        with pytest.raises(ValueError, match="finite"):
            p_values(observed, null, spare=spare)


@pytest.mark.parametrize(
    ("observed", "null"), [((3,), (4, 2)), ((3,), (1, 3)), ((1, 3), (4, 3)), ((3,), (3,)), ((3,), (0, 3))]
)
def test_p_values_refuse_other_shapes(observed, null):
    with pytest.raises(ValueError, match="R >= 2"):
        p_values(torch.zeros(observed), torch.zeros(null))


def gaussian_draw(seed, rows, width):
    """Channels of any place and scale, R + 1 scores of one distribution each."""
    scores = normal(rows + 1, width, seed=seed) * torch.logspace(-3, 3, width) + torch.linspace(-5, 5, width)
    return scores[0], scores[1:]


def snnl_draw(seed, rows, width, batches=1, size=32):
    """SNNL of noise under R + 1 random relabellings of one set, cut into batches."""
    generator, total = stream(seed), 0
    group = (torch.arange(batches * size) % 3 == 0).long()
    drawn = permuted_groups(torch.zeros_like(group), group, rows + 1, within="all", generator=generator)
    for part in drawn.split(size, dim=1):
        total = total + snnl_scores(torch.randn(size, width, 3, generator=generator), part)
    return total[0], total[1:]


@pytest.mark.parametrize(("rows", "width", "draws"), [(3, 30, 600), (9, 50, 400), (99, 20, 200)])
def test_p_values_are_uniform_under_the_null_whatever_the_number_of_relabellings(rows, width, draws):
    """P(p <= a) is a to within four standard errors and the 1 + of the definition, also where R is 3.

    With the R null scores alone to standardise by, P(p <= 0.1) is 0.13 at R = 9.
    """
    p = torch.cat([p_values(*gaussian_draw(seed, rows, width)) for seed in range(draws)])
    for a in (0.02, 0.05, 0.1, 0.5, 0.9):
        allowed = 4 * math.sqrt(a * (1 - a) / len(p))
        assert a - allowed - 1.5 / (1 + rows * width) < (p <= a).double().mean() < a + allowed, a


@pytest.mark.parametrize("batches", [1, 4])
def test_p_values_of_noise_are_uniform_for_the_real_score(batches):
    """Over 200 draws; channels of a draw share its relabellings, so the errors are those of the draws' means."""
    p = torch.stack([p_values(*snnl_draw(seed, 39, 10, batches, 32 // batches)) for seed in range(200)])
    for a in (0.05, 0.1, 0.5, 0.9):
        means = (p <= a).double().mean(1)
        assert abs(means.mean() - a) < 4 * means.std() / math.sqrt(len(means)), a


@pytest.mark.parametrize("draw", [lambda s: gaussian_draw(s, 29, 20), lambda s: snnl_draw(s, 39, 10)])
def test_nothing_is_picked_where_nothing_is_there(draw):
    """Under the null of all channels q is the chance of any pick: 20 of 200 draws, inside the 99.9 % binomial band."""
    picked = sum(bool(significant(p_values(*draw(1000 + seed)), Q).any()) for seed in range(200))
    assert stats.binom.ppf(0.0005, 200, Q) <= picked <= stats.binom.ppf(0.9995, 200, Q)


def test_no_more_is_picked_where_the_group_moves_all_scores():
    """In several batches the group counts move all channels together: any pick in at most a share q of draws."""
    picked = sum(bool(significant(p_values(*snnl_draw(seed, 39, 10, 4, 8)), Q).any()) for seed in range(200))
    assert picked <= stats.binom.ppf(0.9995, 200, Q)


@pytest.mark.parametrize("separated", [2, 20])
def test_the_share_of_false_picks_is_q_where_some_channels_are_separated(separated):
    """Of 40 channels, 2 or 20 lie 8 deviations low: all are found, and false picks stay within q and its error."""
    shares = []
    for seed in range(300):
        observed, null = gaussian_draw(seed, 49, 40)
        observed[:separated] -= 8 * torch.logspace(-3, 3, 40)[:separated]
        chosen = significant(p_values(observed, null), Q)
        assert chosen[:separated].all()
        shares.append(float(chosen[separated:].sum() / chosen.sum()))
    assert np.mean(shares) < Q + 3 * np.std(shares) / math.sqrt(300)
    assert np.mean(shares) > Q / 4


def test_the_example_of_benjamini_and_hochberg():
    """Their 15 p-values of 1995: at q = 0.05 the first four."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    order = torch.randperm(15, generator=stream(0))
    assert significant(torch.tensor(p)[order], 0.05).tolist() == (order < 4).tolist()


def test_significant_steps_up():
    """0.03 and 0.04 are above q / 3 and 2 q / 3 at q = 0.045, but 0.04 is below q: all three."""
    assert significant(torch.tensor([0.04, 0.03, 0.04]), 0.045).all()
    assert not significant(torch.tensor([0.04, 0.03, 0.05]), 0.045).any()


@pytest.mark.parametrize("q", [0.01, 0.1, 0.5])
def test_significant_against_scipy(q):
    generator = np.random.default_rng(4)
    some = 0
    for size in (1, 2, 7, 64, 512):
        for _ in range(20):
            p = np.round(generator.uniform(size=size) ** generator.uniform(1, 6), 3)  # rounded: ties
            expected = stats.false_discovery_control(p) <= q
            assert significant(torch.from_numpy(p), q).tolist() == expected.tolist()
            some += expected.any()
    assert some > 10
    assert significant(torch.zeros(0), q).tolist() == []


@pytest.mark.parametrize(
    ("p", "q", "words"),
    [([0.5], 0, "0 < q < 1"), ([0.5], 1.0, "0 < q < 1"), ([0.5, 1.5], 0.1, "p must"), ([math.nan], 0.1, "p must")],
)
def test_significant_refuses(p, q, words):
    with pytest.raises(ValueError, match=words):
        significant(torch.tensor(p), q)


SCORES = torch.tensor([0.5, 0.1, 0.4, 0.2, 0.3])


@pytest.mark.parametrize(
    ("p", "k", "spare", "expected"),
    [
        ([0.001, 0.9, 0.002, 0.8, 0.001], 2, [], [2, 4]),  # 0.3 and 0.4; 0.1 and 0.2 are no more than chance
        ([0.001, 0.9, 0.002, 0.8, 0.001], 9, [], [0, 2, 4]),
        ([0.001, 0.9, 0.002, 0.8, 0.001], 2, [4], [0, 2]),
        ([0.001, 0.9, 0.002, 0.8, 0.001], 0, [], []),
        ([0.5, 0.9, 0.2, 0.8, 0.3], 2, [], []),
        ([0.03, 0.9, 1, 0.8, 0.7], 2, [], []),  # 0.03 is above 0.1 / 5
        ([0.03, 0.9, 1, 0.8, 0.7], 2, [2, 3], [0]),  # below 0.1 / 3: what is spare is not tested
        ([0.07, 0.001, 1, 0.8, 0.7], 2, [1], []),  # a spare channel's p does not help the others
        ([0.0, 0, 0, 0, 0], 3, torch.arange(5), []),
    ],
)
def test_pick_significant(p, k, spare, expected):
    assert pick_significant(SCORES, torch.tensor(p), k, Q, spare=spare).tolist() == expected


def test_pick_significant_refuses():
    for k, p in ((-1, torch.ones(5)), (1, torch.ones(4))):
        with pytest.raises(ValueError, match="k >= 0 and as many p"):
            pick_significant(SCORES, p, k, Q)
    with pytest.raises(ValueError, match="NaN"):
        pick_significant(torch.full((5,), torch.nan), torch.zeros(5), 1, Q)
    assert pick_significant(torch.full((5,), torch.nan), torch.ones(5), 1, Q).tolist() == []


class Counting(Learner):
    """Counts its forward passes."""

    passes = 0

    def forward(self, image, group=None):
        self.passes += 1
        return super().forward(image, group)


def planted(seed, *, samples=512, size=64):
    """Channel 0 shows the class, 1 the group, 2 to 9 noise; group 1 is 85 % of class 1 and 15 % of class 0."""
    generator = stream(seed)
    label = torch.randint(2, (samples,), generator=generator)
    group = (torch.rand(samples, generator=generator) < torch.where(label == 1, 0.85, 0.15)).long()
    image = torch.rand(samples, 3, 4, 4, generator=generator) * 0.6
    for colour, codes in enumerate((label, group)):
        for code in (0, 1):
            image[codes == code, colour, :, 2 * code : 2 * code + 2] += 0.4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        conv = nn.Conv2d(3, WIDTH, 3, padding=1)
        network = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 2))
    with torch.no_grad():
        conv.weight[2:, :2] = 0
        conv.weight[:2] = 0
        conv.weight[0, 0, 1, 1], conv.weight[1, 1, 1, 1] = 1, -0.1
    parts = (x.split(size) for x in (image, label, group, group[:, None]))
    batches = [Batch(*batch) for batch in zip(*parts, strict=True)]
    return Counting(network, (PrunableLayer(1, "0", WIDTH, ()),)), batches, label, group


@pytest.mark.parametrize("seed", range(6))
def test_permuting_within_classes_tells_the_group_from_the_class(seed):
    """Both planted channels score lowest. Within classes only the group's is more than chance; over all both are.

    At q = 0.1 a noise channel may be picked beside them in about one seed of ten; it is not in these.
    """
    learner, batches, label, group = planted(seed)
    snnl, layer, generator = criteria.get("snnl")(), learner.layers[0], stream(100 + seed)
    observed = snnl.score(learner, layer, batches)
    assert set(observed.argsort()[:2].tolist()) == {0, 1}
    for within, expected in (("class", [1]), ("all", [0, 1])):
        learner.passes = 0
        drawn = permuted_groups(label, group, 60, within=within, generator=generator)
        null = snnl.score(learner, layer, batches, group=drawn)
        assert learner.passes == len(batches)
        p = p_values(observed, null)
        assert significant(p, Q).nonzero().flatten().tolist() == expected
        assert (p[0] > 0.1) == (within == "class")
        assert pick_significant(observed, p, 3, Q).tolist() == expected
        assert pick_significant(observed, p, 3, Q, spare=[1]).tolist() == expected[:-1]


@pytest.mark.parametrize("name", ["snnl", "gap-taylor"])
def test_relabellings_of_the_whole_set_are_cut_into_the_same_batches_and_scored_in_one_pass(name):
    learner, batches, label, group = planted(0, samples=200)
    criterion, layer = criteria.get(name)(), learner.layers[0]
    assert criterion.uses_groups
    drawn = permuted_groups(label, group, 5, within="class", generator=stream(1))
    moved = (drawn.split(64, dim=1)[0] == 1).sum(1)
    assert len(moved.unique()) > 1, "codes wander between batches"
    null = criterion.score(learner, layer, batches, group=drawn)
    assert (null.shape, learner.passes, len(batches)) == ((5, WIDTH), 4, 4)
    for row, scores in zip(drawn, null, strict=True):
        cut = [batch._replace(group=part) for batch, part in zip(batches, row.split(64), strict=True)]
        assert torch.equal(criterion.score(learner, layer, cut), scores)


@pytest.mark.parametrize("name", ["magnitude", "activation", "taylor", "random"])
def test_a_criterion_that_knows_no_groups_has_nothing_significant(name):
    learner, batches, label, group = planted(0, samples=128)
    criterion, layer = criteria.get(name)(), learner.layers[0]
    assert not criterion.uses_groups
    drawn = permuted_groups(label, group, 5, within="class", generator=stream(1))
    scores = criterion.score(learner, layer, batches)
    p = p_values(scores, criterion.score(learner, layer, batches, group=drawn))
    assert p.tolist() == [1] * WIDTH
    assert pick_significant(scores, p, 3, Q).tolist() == []
