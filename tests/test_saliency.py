from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from scp_ray.errors import ScoreError
from scp_ray.maths import per_sample
from scp_ray.maths.masks import mask_parameter_, parameter_mask
from scp_ray.maths.saliency import add_curvature_
from scp_ray.maths.weight_ranking import balanced_rows, layer_sparsity, prune_smallest_, saliency, smallest


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def planted(module, seed=0):
    """float64, eval mode, every parameter and running statistic drawn."""
    generator = stream(seed)
    module = module.double().eval()
    for name, tensor in module.state_dict().items():
        if tensor.dtype == torch.float64:
            values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values / 2)
    return module


def one(module, tau=1.0):
    """The module's logits as those of a single exit."""
    return lambda image: [(tau, module(image))]


def curvature(module, image, label=None, logits_of=None, **options):
    """Mean over samples."""
    sums = {}
    label = torch.zeros(len(image), dtype=torch.long) if label is None else label
    add_curvature_(sums, module, logits_of or one(module), image, label, **options)
    return {name: total / len(image) for name, total in sums.items()}


def hessian_diagonals(module, names, loss):
    """Of the loss (a function of the module's named weights), by autograd, weight for weight."""
    found = {}
    for name in names:
        weight = module.get_submodule(name).weight.detach().clone()

        def alone(values, name=name):
            return loss({f"{name}.weight": values})

        hessian = torch.autograd.functional.hessian(alone, weight)
        size = weight.numel()
        found[name] = hessian.reshape(size, size).diagonal().reshape(weight.shape)
    return found


def per_sample_squares(module, names, losses):
    """Mean of the squared gradients of each loss, one backward pass each."""
    weights = [module.get_submodule(name).weight for name in names]
    gradients = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in losses]
    return {name: torch.stack([g[i] for g in gradients]).square().mean(0) for i, name in enumerate(names)}


def same(left, right, rel=1e-9):
    assert list(sorted(left)) == list(sorted(right))
    for name, values in left.items():
        assert values.shape == right[name].shape
        scale = float(right[name].abs().max())
        assert scale > 0, name
        assert float((values - right[name]).abs().max()) <= rel * scale, name


def small_net(inplace=True):
    """conv-BN-ReLU-pool-grouped strided conv-ReLU-fc; 3 classes, images of 2 x 8 x 8."""
    return planted(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=inplace),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2),
            nn.ReLU(inplace=inplace),
            nn.Flatten(),
            nn.Linear(16, 3),
        )
    )


WEIGHTS = ["0", "4", "7"]


def images(count, *shape, seed=1):
    return torch.randn(count, *shape, generator=stream(seed), dtype=torch.float64)


def test_exact_is_the_diagonal_of_the_hessian():
    """Mean cross-entropy over 5 samples; its labels do not matter where logits are piecewise linear in one weight."""
    net, image = small_net(), images(5, 2, 8, 8)
    label = torch.tensor([0, 2, 1, 1, 0])

    def loss(weights):
        return functional.cross_entropy(functional_call(net, weights, (image,)), label)

    same(curvature(net, image, draws="exact"), hessian_diagonals(net, WEIGHTS, loss))


class TwoExits(nn.Module):
    """A shared convolution and two heads of different weight."""

    taus = (0.3, 0.9)

    def __init__(self):
        super().__init__()
        self.trunk = nn.Conv2d(1, 2, 3)
        self.early, self.late = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, image):
        maps = functional.relu(self.trunk(image)).flatten(1)
        return [(self.taus[0], self.early(maps)), (self.taus[1], self.late(maps))]


def test_exact_of_several_exits_is_the_hessian_of_their_weighted_sum():
    net, image = planted(TwoExits()), images(4, 1, 4, 4)
    label = torch.tensor([0, 2, 1, 1])

    def loss(weights):
        exits = functional_call(net, weights, (image,))
        return sum(tau * functional.cross_entropy(logits, label) for tau, logits in exits)

    found = curvature(net, image, logits_of=net, draws="exact")
    same(found, hessian_diagonals(net, ["trunk", "early", "late"], loss))


def test_one_draw_of_several_exits_has_no_cross_terms_on_average():
    """Heads alike: with one label for both, the trunk's mean would be (sqrt .3 + sqrt .9)^2 / 1.2 = 1.87 of this."""
    net, image = planted(TwoExits()), images(4, 1, 4, 4)
    net.late.load_state_dict(net.early.state_dict())
    exact = curvature(net, image, logits_of=net, draws="exact")
    drawn = curvature(net, image, logits_of=net, draws=3000, generator=stream())
    for name, values in exact.items():
        assert float(drawn[name].sum() / values.sum()) == pytest.approx(1, abs=0.05), name


def test_fisher_of_several_exits_is_the_weighted_sum_of_squares():
    net, image = planted(TwoExits()), images(4, 1, 4, 4)
    label = torch.tensor([0, 2, 1, 1])
    (_, early), (_, late) = net(image)
    expected = per_sample_squares(net, ["trunk"], functional.cross_entropy(early, label, reduction="none"))["trunk"]
    other = per_sample_squares(net, ["trunk"], functional.cross_entropy(late, label, reduction="none"))["trunk"]
    found = curvature(net, image, label, logits_of=net, draws="fisher")["trunk"]
    assert torch.allclose(found, 0.3 * expected + 0.9 * other, rtol=1e-9)


def test_fisher_squares_single_samples_and_not_their_mean():
    net, image = small_net(), images(6, 2, 8, 8)
    label = torch.tensor([0, 1, 2, 2, 1, 0])
    losses = functional.cross_entropy(net(image), label, reduction="none")
    found = curvature(net, image, label, draws="fisher")
    same(found, per_sample_squares(net, WEIGHTS, losses))
    of_the_mean = per_sample_squares(net, WEIGHTS, [losses.mean()])
    for name, values in found.items():
        assert float(values.sum()) > 1.5 * float(of_the_mean[name].sum())


class Twice(nn.Module):
    """One convolution run twice, the second time on a smaller map; one linear layer on every position."""

    def __init__(self):
        super().__init__()
        self.conv, self.mix, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 3), nn.Linear(3, 3)

    def forward(self, image):
        maps = self.conv(self.conv(image).relu_()[:, :, ::2, ::2])
        return self.head(self.mix(maps.flatten(2).transpose(1, 2)).square().mean(1))


CONVOLUTIONS = {
    "stride": {"kernel_size": 3, "stride": 2},
    "uneven": {"kernel_size": (1, 4), "stride": (2, 1), "padding": (0, 2)},
    "dilated": {"kernel_size": 3, "dilation": (2, 1), "padding": 2},
    "grouped": {"kernel_size": 3, "groups": 2, "stride": 2, "padding": 1},
    "depthwise": {"kernel_size": 3, "groups": 4},
    "same": {"kernel_size": (4, 3), "dilation": (1, 2), "padding": "same"},
    "valid": {"kernel_size": 2, "padding": "valid"},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "circular": {"kernel_size": 3, "padding": (2, 1), "padding_mode": "circular"},
    "pointwise": {"kernel_size": 1, "bias": False},
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("block", [1, per_sample.BLOCK])
@pytest.mark.parametrize("kind", [*CONVOLUTIONS, "twice"])
def test_every_kind_of_layer_against_one_backward_pass_a_sample(monkeypatch, kind, block):
    monkeypatch.setattr(per_sample, "BLOCK", block)
    if kind == "twice":
        net, shape, names = planted(Twice()), (2, 6, 6), ["conv", "mix", "head"]
    else:
        conv = nn.Conv2d(4, 8, **CONVOLUTIONS[kind])
        after = [nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)]
        net = planted(nn.Sequential(conv, *after))
        shape, names = (4, 7, 6), ["0", "4"]
    image, label = images(5, *shape), torch.tensor([0, 1, 2, 2, 0])
    losses = functional.cross_entropy(net(image), label, reduction="none")
    same(curvature(net, image, label, draws="fisher"), per_sample_squares(net, names, losses))


def test_what_relu_overwrites_in_place_does_not_matter():
    image = images(4, 2, 8, 8)
    same(curvature(small_net(True), image, draws="exact"), curvature(small_net(False), image, draws="exact"))


def test_masked_weights_count_as_zero():
    """The curvature in the effective weights, also of those held at 0: that of a net with plain zeros there."""
    net, plain, image = small_net(), small_net(), images(3, 2, 8, 8)
    keep = torch.rand(net[4].weight.shape, generator=stream()) > 0.4
    mask_parameter_(net[4], "weight", keep)
    plain[4].weight.data *= keep
    found = curvature(net, image, draws="exact")
    same(found, curvature(plain, image, draws="exact"))
    assert (found["4"][~keep] > 0).any()


@pytest.mark.parametrize("draws", [1, "exact"])
def test_softmax_regression_at_equal_logits(draws):
    """z = (0, 0), x = 1: p (1 - p) = 1/4 of each; with two classes any draw gives (1/2)^2."""
    net = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(net.weight)
    found = curvature(net, torch.ones(3, 1), draws=draws, generator=stream())[""]
    assert found.flatten().tolist() == pytest.approx([0.25, 0.25], abs=1e-6)
    assert found.dtype == torch.float32


def test_draws_come_from_the_softmax():
    """p = (1/2, 1/3, 1/6): mean of (p - 1[drawn])^2 = p (1 - p) = 1/4, 2/9, 5/36; uniform draws: 1/4, 2/9, 1/4."""
    net = nn.Linear(1, 3, bias=False).double()
    net.weight.data = torch.tensor([[3.0], [2.0], [1.0]]).double().log()
    image = torch.ones(100, 1, dtype=torch.float64)
    exact = curvature(net, image, draws="exact")[""].flatten()
    assert exact.tolist() == pytest.approx([1 / 4, 2 / 9, 5 / 36])
    drawn = curvature(net, image, draws=300, generator=stream())[""].flatten()
    assert drawn.tolist() == pytest.approx(exact.tolist(), abs=0.005)


def test_the_error_of_drawing_shrinks_with_the_root_of_draws():
    """64 draws against 4: a quarter of the error, over 60 repetitions each."""
    net, image = small_net(), images(4, 2, 8, 8)
    exact = torch.cat([values.flatten() for _, values in sorted(curvature(net, image, draws="exact").items())])
    generator = stream(7)
    errors, means = {}, {}
    for draws in (4, 64):
        runs = [curvature(net, image, draws=draws, generator=generator) for _ in range(60)]
        drawn = torch.stack([torch.cat([run[name].flatten() for name in sorted(run)]) for run in runs])
        errors[draws] = float((drawn - exact).square().mean().sqrt())
        means[draws] = float((drawn.mean(0) - exact).norm() / exact.norm())
    assert errors[4] / errors[64] == pytest.approx(4, rel=0.2)
    assert means[64] < 0.05


def test_the_same_generator_draws_the_same_and_another_does_not():
    net, image = small_net(), images(4, 2, 8, 8)
    first, again, other = (curvature(net, image, draws=9, generator=stream(seed))["7"] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    state = torch.random.get_rng_state()
    curvature(net, image, draws=1, generator=stream())
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(ValueError, match="generator"):
        curvature(net, image, draws=1)


def test_batches_add_up():
    net, image, label = small_net(), images(6, 2, 8, 8), torch.tensor([0, 1, 2, 2, 1, 0])
    sums = {}
    for part in (slice(0, 4), slice(4, 6)):
        add_curvature_(sums, net, one(net), image[part], label[part], draws="fisher")
    whole = curvature(net, image, label, draws="fisher")
    same({name: total / 6 for name, total in sums.items()}, whole)


def hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_nothing_is_left_on_the_network():
    """No hook, no gradient, no graph; and a network whose parameters are frozen is scored all the same."""
    net, image = small_net(), images(3, 2, 8, 8)
    net[0].weight.grad = torch.full_like(net[0].weight, 7)
    before = curvature(net, image, draws="exact")
    assert hooks(net) == 0
    assert net[0].weight.grad.unique().tolist() == [7]
    assert all(part.grad is None for name, part in net.named_parameters() if name != "0.weight")
    assert not image.requires_grad
    assert not any(values.requires_grad for values in before.values())
    net.requires_grad_(False)
    with torch.no_grad():
        same(curvature(net, image, draws="exact"), before)


def test_hooks_are_removed_where_the_network_fails():
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, image):
            return self.head(image.reshape(-1, 4)).reshape(len(image), -1)

    net = Folded()
    with pytest.raises(RuntimeError, match="head was run on 6 rows of a batch of 3 images"):
        curvature(net, torch.ones(3, 8), draws="exact")
    assert hooks(net) == 0
    broken = nn.Linear(4, 2)
    broken.weight.data[0] = math.nan
    with pytest.raises(ScoreError, match="logits are NaN or infinite"):
        curvature(broken, torch.ones(3, 4), draws="exact")
    assert hooks(broken) == 0


def test_layers_that_the_logits_do_not_come_from_are_left_out():
    net = small_net()
    net.adversary = nn.Linear(16, 2).double()
    image = images(3, 2, 8, 8)
    found = curvature(net, image, logits_of=lambda x: [(1.0, net[:8](x))], draws="exact")
    assert set(found) == set(WEIGHTS)


# ranking

THETA = torch.tensor([1.0, 2.0, -1.0, 0.5])
UNPRIVILEGED, PRIVILEGED = torch.tensor([0.4, 0.1, 0.2, 1.0]), torch.tensor([0.1, 0.9, 0.6, 0.2])


def linear(weight):
    net = nn.Linear(len(weight), 1)
    net.weight.data = weight[None].clone()
    return nn.Sequential(net)


def pruning_order(weight, values):
    """Which weight goes first, second, ...: masks of growing size on fresh copies."""
    masked = []
    for count in range(1, len(weight) + 1):
        net = linear(weight)
        prune_smallest_(net, {"0": values[None]}, count / len(weight))
        gone = (~parameter_mask(net[0], "weight")).nonzero()[:, 1].tolist()
        masked += [index for index in gone if index not in masked]
        assert len(gone) == count
    return masked


def test_fairprune_example():
    """s = theta^2 (h_unp - .33 h_priv) / 2, e.g. (.4 - .033) / 2 = .1835; 2 (.1 - .297) = -.394."""
    s = saliency(THETA, UNPRIVILEGED - 0.33 * PRIVILEGED)
    assert s.tolist() == pytest.approx([0.1835, -0.3940, 0.0010, 0.11675], abs=1e-6)
    assert pruning_order(THETA, s) == [1, 2, 3, 0]


def test_obd_example():
    """Equal groups: h = (.25, .5, .4, .6), s = (.125, 1, .2, .075): the opposite end."""
    s = saliency(THETA, (UNPRIVILEGED + PRIVILEGED) / 2)
    assert s.tolist() == pytest.approx([0.125, 1.0, 0.2, 0.075], abs=1e-6)
    assert pruning_order(THETA, s) == [3, 0, 2, 1]


def test_swapped_groups_at_beta_one_negate_the_saliency():
    s = saliency(THETA, UNPRIVILEGED - 1.0 * PRIVILEGED)
    assert torch.equal(saliency(THETA, PRIVILEGED - 1.0 * UNPRIVILEGED), -s)


def test_smallest_over_several_tensors():
    """-2 and the first two of the three 0s, in flat order."""
    parts = [torch.tensor([[0.0, 3.0], [1.0, 0.0]]), torch.tensor([-2.0, 0.0])]
    chosen = smallest(parts, 3)
    assert [mask.tolist() for mask in chosen] == [[[True, False], [False, True]], [True, False]]
    for count in range(7):
        assert sum(int(mask.sum()) for mask in smallest(parts, count)) == count


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.35, 0.5, 0.999])
@pytest.mark.parametrize("values", ["distinct", "equal", "signed"])
def test_sparsity_is_exact(fraction, values):
    """P = 8*3*3*3 + 16*8*1*1 + 5*16 = 424."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 1), nn.Flatten(), nn.Linear(16, 5))
    generator = stream()
    saliencies = {}
    for name in ("0", "2", "4"):
        drawn = torch.randn(net.get_submodule(name).weight.shape, generator=generator)
        saliencies[name] = {"distinct": drawn.abs(), "equal": torch.ones_like(drawn), "signed": drawn.sign()}[values]
    prune_smallest_(net, saliencies, fraction)
    gone = sum(int((net.get_submodule(name).weight == 0).sum()) for name in saliencies)
    assert gone == round(fraction * 424)
    shares = layer_sparsity(net)
    assert set(shares) == {"0", "2", "4"}
    assert 216 * shares["0"] + 128 * shares["2"] + 80 * shares["4"] == pytest.approx(gone)


def test_masked_weights_count_and_go_first():
    """2 of 6 are masked though their saliency would be the highest; a third of 6 is there, a half takes one more."""
    net = linear(torch.arange(1.0, 7.0))
    mask_parameter_(net[0], "weight", torch.tensor([[True, True, False, True, False, True]]))
    values = torch.tensor([[5.0, -3.0, 9.0, 0.5, 9.0, 1.0]])
    prune_smallest_(net, {"0": values}, 1 / 3)
    assert net[0].weight.flatten().tolist() == [1, 2, 0, 4, 0, 6]
    prune_smallest_(net, {"0": values}, 1 / 2)
    assert net[0].weight.flatten().tolist() == [1, 0, 0, 4, 0, 6]
    assert layer_sparsity(net) == {"0": 0.5}


def test_a_layer_that_loses_nothing_gets_no_mask():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    prune_smallest_(net, {"0": torch.zeros(2, 2), "1": torch.ones(1, 2)}, 0.5)
    assert parameter_mask(net[1], "weight") is None
    assert layer_sparsity(net) == {"0": 0.75, "1": 0.0}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_cannot_be_ranked_is_refused(value):
    net = linear(THETA)
    with pytest.raises(ScoreError, match="saliencies of 0 are NaN or infinite"):
        prune_smallest_(net, {"0": torch.tensor([[0.0, value, 1.0, 2.0]])}, 0.5)
    assert parameter_mask(net[0], "weight") is None


def cells(label, group, chosen, code):
    return Counter(label[chosen == code].tolist())


def test_rows_are_balanced_over_classes_in_each_group():
    """Group 0: classes of 50, 3, 20; 30 rows = 3 of the small one, and 13 or 14 of the others."""
    label = torch.tensor([0] * 50 + [1] * 3 + [2] * 20 + [0] * 40 + [1] * 40)
    group = torch.tensor([0] * 73 + [1] * 80)
    mixed = torch.randperm(len(label), generator=stream(5))
    label, group = label[mixed], group[mixed]
    chosen = balanced_rows(label, group, 30, stream())
    first = cells(label, group, chosen, 0)
    assert first[1] == 3
    assert sorted((first[0], first[2])) == [13, 14]
    assert cells(label, group, chosen, 1) == {0: 15, 1: 15}
    assert (group[chosen == 0] == 0).all() and (group[chosen == 1] == 1).all()
    assert torch.equal(chosen, balanced_rows(label, group, 30, stream())), "the same each time"


def test_rows_of_a_class_are_drawn_and_not_the_first_of_the_table():
    same_class = torch.zeros(40, dtype=torch.long)
    taken = [(balanced_rows(same_class, same_class, 8, stream(seed)) == 0).nonzero()[:, 0] for seed in range(3)]
    assert not any(rows.tolist() == list(range(8)) for rows in taken)
    assert len(torch.cat(taken).unique()) > 8


def test_fewer_rows_than_wanted_are_all_taken():
    label, group = torch.tensor([0, 1, 1, 3, 3, 3]), torch.tensor([1, 1, 1, 0, 0, -1])
    assert balanced_rows(label, group, 10, stream()).tolist() == [1, 1, 1, 0, 0, -1], "-1: of no group"


def test_fewer_rows_than_classes_take_different_classes_not_always_the_first():
    label, group = torch.arange(20).repeat(3), torch.zeros(60, dtype=torch.long)
    taken = [cells(label, group, balanced_rows(label, group, 5, stream(seed)), 0) for seed in range(6)]
    assert all(set(each.values()) == {1} and len(each) == 5 for each in taken)
    assert len(set().union(*taken)) > 10
