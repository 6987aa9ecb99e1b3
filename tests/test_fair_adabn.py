from __future__ import annotations

import copy

import pytest
import torch
from planted import (
    accuracy,
    as_batch,
    changed,
    fresh,
    goes_on_bit_for_bit,
    map_of,
    maps_are_the_batchs_own,
    planted_data,
    trained,
    whole_trial,
)
from torch import nn
from torch.nn import functional

from scp_ray.errors import ConfigError
from scp_ray.loop.rounds import apply_channel_mask_, kept_channels
from scp_ray.maths.group_norm import GroupBatchNorm2d, routed
from scp_ray.methods.base import methods
from scp_ray.methods.fair_adabn import FairAdaBN, parity_gap
from scp_ray.parts import Network, PrunableLayer, TrainPlan, state_to_cpu

DATA = planted_data()
BATCH = as_batch(DATA.splits["train"])
ZEROS, ONES = ((BATCH.group == code).nonzero().flatten() for code in (0, 1))


def only(code):
    return as_batch(DATA.splits["train"], (BATCH.group == code).nonzero().flatten())


def stirred(learner):
    """Branches that differ in all they hold, so that a sample in the wrong one is seen."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for part in learner.modules():
            if isinstance(part, nn.BatchNorm2d):
                for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                    tensor += 0.3 * torch.rand(tensor.shape, generator=draw)
    return learner


def single(learner, code):
    """The ordinary network of one group: every pair of branches replaced by that one, built by hand."""
    network = copy.deepcopy(learner.network)
    for name, part in list(network.named_modules()):
        if isinstance(part, GroupBatchNorm2d):
            owner, _, own = name.rpartition(".")
            setattr(network.get_submodule(owner), own, part.branches[code])
    return network


def test_parity_by_hand():
    """Shares (3/4, 1/4) and (1/2, 1/2): 2 (1/4)^2 = 0.125, soft and hard."""
    first = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    second = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert parity_gap(100 * first, 100 * second).item() == pytest.approx(0.125)
    assert parity_gap(0.1 * first, 0.1 * second, hard=True).item() == pytest.approx(0.125)


def test_soft_parity_is_of_mean_probabilities():
    """Probabilities (3/4, 1/4) and (1/5, 4/5) against (1/2, 1/2): means 0.475 and 0.525, so 2 * 0.025^2."""
    first = torch.tensor([[0.75, 0.25], [0.2, 0.8]]).log()
    assert parity_gap(first, torch.zeros(3, 2)).item() == pytest.approx(2 * 0.025**2, rel=1e-4)


def test_soft_parity_has_a_gradient_and_the_released_form_has_none():
    first = torch.tensor([[0.75, 0.25]], requires_grad=True)
    parity_gap(first, torch.tensor([[0.0, 3.0]])).backward()
    assert first.grad.abs().min() > 0.01
    assert not parity_gap(first, torch.tensor([[0.0, 3.0]]), hard=True).requires_grad


@pytest.mark.parametrize("backbone", ["tiny", "resnet18"])
def test_a_fresh_model_in_eval_mode_is_its_source_for_either_group(backbone):
    learner = fresh(FairAdaBN(), DATA, backbone).eval()
    source = fresh(methods.get("vanilla")(), DATA, backbone).eval()
    image = BATCH.image[:8]
    with torch.no_grad():
        expected = source(image)
        for group in (torch.zeros(8), torch.ones(8), BATCH.group[:8]):
            torch.testing.assert_close(learner(image, group.long()), expected, rtol=1e-5, atol=1e-6)


def test_every_norm_but_the_stem_is_doubled():
    """tiny: 8 norms, at 1, 4, 7, ...; ResNet-18: 20, three of them on shortcuts."""
    for backbone, count, stem in (("tiny", 8, "1"), ("resnet18", 20, "bn1")):
        learner = fresh(FairAdaBN(), DATA, backbone)
        doubled = [name for name, part in learner.network.named_modules() if isinstance(part, GroupBatchNorm2d)]
        assert len(doubled) == count - 1
        assert type(learner.network.get_submodule(stem)) is nn.BatchNorm2d
        assert backbone != "resnet18" or "layer2.0.downsample.1" in doubled
    assert learner.backbone_name == "resnet18"


class Backwards(nn.Module):
    """Registers its norms in the other order than it uses them."""

    def __init__(self):
        super().__init__()
        self.late, self.early = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.a, self.b, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, image):
        return self.head(self.late(self.b(self.early(self.a(image)).relu())).mean((2, 3)))


def test_the_stem_is_the_first_in_forward_order():
    layers = (PrunableLayer(1, "a", 4, ("early",)), PrunableLayer(2, "b", 4, ("late",)))
    learner = FairAdaBN().build(lambda: Network(Backwards(), layers), DATA, {})
    assert isinstance(learner.network.late, GroupBatchNorm2d)
    assert isinstance(learner.network.early, nn.BatchNorm2d)
    assert [layer.norms for layer in learner.layers] == [("early",), ("late.branches.0", "late.branches.1")]


def test_layers_name_both_branches():
    source, learner = fresh(methods.get("vanilla")(), DATA), fresh(FairAdaBN(), DATA)
    assert [layer.norms for layer in source.layers[:2]] == [("1",), ("4",)]
    assert [layer.norms for layer in learner.layers[:2]] == [("1",), ("4.branches.0", "4.branches.1")]
    assert all(learner.network.get_submodule(name) for layer in learner.layers for name in layer.norms)


def test_each_sample_goes_through_its_groups_branch():
    """In eval mode the whole batch gives what each group's own network gives, in the batch's order."""
    learner = stirred(fresh(FairAdaBN(), DATA)).eval()
    with torch.no_grad():
        together = learner(BATCH.image, BATCH.group)
        alone = torch.stack([single(learner, code)(BATCH.image) for code in (0, 1)])
    expected = alone[BATCH.group, torch.arange(len(BATCH.group))]
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-5)
    assert (alone[0] - alone[1]).abs().mean() > 0.05


def test_in_train_mode_each_branch_takes_its_own_groups_statistics():
    """What follows the stem, one adapted norm by itself: outputs, statistics and gradients of two ordinary norms."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(7, 4, 3, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    codes = torch.tensor([0, 1, 1, 0, 1, 0, 1])
    weights = torch.randn(7, 4, 3, 3, generator=draw, dtype=torch.float64)
    pair = GroupBatchNorm2d(nn.BatchNorm2d(4).double(), 2)
    with routed(pair, codes, 2):
        out = pair(x)
    (gradient,) = torch.autograd.grad((out * weights).sum(), x)
    for code in (0, 1):
        norm, part = nn.BatchNorm2d(4).double(), x[codes == code].detach().requires_grad_()
        expected = norm(part)
        torch.testing.assert_close(out[codes == code], expected)
        torch.testing.assert_close(pair.branches[code].running_var, norm.running_var)
        torch.testing.assert_close(pair.branches[code].running_mean, norm.running_mean)
        (own,) = torch.autograd.grad((expected * weights[codes == code]).sum(), part)
        torch.testing.assert_close(gradient[codes == code], own)


def test_the_shared_stem_sees_the_whole_batch_once():
    learner = fresh(FairAdaBN(), DATA).train()
    source = nn.BatchNorm2d(16)
    with torch.no_grad():
        source(learner.network[0](BATCH.image))
        learner(BATCH.image, BATCH.group)
    torch.testing.assert_close(learner.network[1].running_mean, source.running_mean)
    torch.testing.assert_close(learner.network[1].running_var, source.running_var)
    assert int(learner.network[1].num_batches_tracked) == 1


@pytest.mark.parametrize(("code", "other"), [(0, 1), (1, 0)])
def test_a_batch_of_one_group_leaves_the_other_branch_untouched(code, other):
    """Statistics and, through a step with momentum and decay, its weights; the branch of the batch moves."""
    learner = fresh(FairAdaBN(), DATA).train()
    optimizers = learner.optimizers(TrainPlan(weight_decay=0.1))
    before = state_to_cpu(learner.state_dict())
    loss = learner.training_step_(only(code), optimizers, torch.Generator())["loss"]
    moved = changed(before, state_to_cpu(learner.state_dict()))
    assert {key for key in moved if f".branches.{other}." in key} == set()
    assert {key for key in before if f".branches.{code}." in key} <= moved
    assert loss.isfinite()


def test_one_sample_of_a_group_has_no_variance_and_takes_the_running_one():
    """16 px images end in 1 x 1 maps: there a lone sample is one value per channel."""
    learner = stirred(fresh(FairAdaBN(), DATA)).train()
    rows = torch.cat([ZEROS[:1], ONES[:6]])
    batch = as_batch(DATA.splits["train"], rows)
    before = state_to_cpu(learner.state_dict())
    loss = learner.training_step_(batch, learner.optimizers(TrainPlan()), torch.Generator())["loss"]
    assert loss.isfinite()
    moved = changed(before, state_to_cpu(learner.state_dict()))
    assert {f"network.{n}.branches.1.running_var" for n in (4, 19, 22)} <= moved
    assert "network.4.branches.0.running_var" in moved
    last = {f"network.{n}.branches.0.{k}" for n in (19, 22) for k in ("running_mean", "running_var")}
    assert last.isdisjoint(moved)
    assert "network.22.branches.0.weight" in moved


def test_one_value_per_channel_by_hand():
    """(3 - 1) / sqrt(4 + eps) * 5 + 7 = 12 with running mean 1 and variance 4; the statistics stay."""
    pair = GroupBatchNorm2d(nn.BatchNorm2d(1, eps=1e-12), 2).train()
    branch = pair.branches[1]
    for tensor, value in ((branch.running_mean, 1), (branch.running_var, 4), (branch.weight, 5), (branch.bias, 7)):
        tensor.data.fill_(value)
    x = torch.tensor([0.0, 3.0, 2.0]).view(3, 1, 1, 1)
    with routed(pair, torch.tensor([0, 1, 0]), 2):
        out = pair(x)
    assert out.flatten().tolist() == pytest.approx([-1, 12, 1])
    assert (branch.running_mean.item(), branch.running_var.item(), branch.num_batches_tracked.item()) == (1, 4, 0)


def parts_of_loss(logits, batch):
    own = [functional.cross_entropy(logits[batch.group == code], batch.label[batch.group == code]) for code in (0, 1)]
    shares = [logits[batch.group == code].softmax(1).mean(0) for code in (0, 1)]
    return own, (shares[0] - shares[1]).square().sum()


@pytest.mark.parametrize("alpha", [0.0, 1.0, 20.0])
def test_the_loss_counts_each_group_once_whatever_its_size(alpha):
    learner = stirred(fresh(FairAdaBN(alpha=alpha), DATA)).eval()
    batch = as_batch(DATA.splits["train"], torch.cat([ZEROS[:9], ONES[:2]]))
    own, gap = parts_of_loss(learner(batch.image, batch.group), batch)
    assert gap > 1e-4
    assert learner.loss(batch).item() == pytest.approx((own[0] + own[1] + alpha * gap).item(), rel=1e-5)


def test_the_released_form_only_shifts_the_loss():
    losses, gradients = [], []
    for method in (FairAdaBN(alpha=0.0), FairAdaBN(hard=True)):
        learner = stirred(fresh(method, DATA)).train()
        loss = learner.loss(BATCH)
        loss.backward()
        losses.append(loss.item())
        gradients.append([parameter.grad for parameter in learner.parameters()])
    again = stirred(fresh(FairAdaBN(), DATA)).train()
    predicted = again(BATCH.image, BATCH.group).argmax(1)
    shares = [predicted[BATCH.group == code].bincount(minlength=3).double() for code in (0, 1)]
    gap = (shares[0] / len(ZEROS) - shares[1] / len(ONES)).square().sum().item()
    assert gap > 1e-3
    assert losses[1] - losses[0] == pytest.approx(gap, abs=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_an_absent_group_adds_nothing():
    learner = fresh(FairAdaBN(), DATA).eval()
    batch = only(0)
    expected = functional.cross_entropy(learner(batch.image, batch.group), batch.label)
    assert learner.loss(batch).item() == pytest.approx(expected.item(), rel=1e-6)


def test_unknown_groups_are_routed_as_one():
    learner = stirred(fresh(FairAdaBN(), DATA)).eval()
    unknown = torch.where(BATCH.group == 1, -1, 0)
    assert torch.equal(learner(BATCH.image, unknown), learner(BATCH.image, BATCH.group))
    assert learner.loss(BATCH._replace(group=unknown)) == learner.loss(BATCH)


def test_no_group_or_an_impossible_one_is_an_error():
    learner = fresh(FairAdaBN(), DATA)
    with pytest.raises(ConfigError, match="fair-adabn needs the group"):
        learner(BATCH.image)
    with pytest.raises(ConfigError, match="fair-adabn needs the group"):
        learner.predict(BATCH.image)
    with pytest.raises(ValueError, match=r"codes \[-2, 2\] have no branch; there are branches 0 to 1"):
        learner(BATCH.image[:3], torch.tensor([2, 0, -2]))


def test_the_route_is_forgotten_after_a_pass_also_after_one_that_failed():
    learner = fresh(FairAdaBN(), DATA)
    learner(BATCH.image, BATCH.group)
    with pytest.raises(RuntimeError, match=r"inside routed\(\)"):
        learner.network(BATCH.image)
    with pytest.raises(RuntimeError, match="channels"):
        learner(BATCH.image[:, :2], BATCH.group)
    with pytest.raises(RuntimeError, match=r"inside routed\(\)"):
        learner.network(BATCH.image)


def test_a_network_without_norms_is_refused_by_name():
    for backbone, name in (("vgg11", "vgg11"), ("", "this network")):
        network = Network(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), (), (), backbone)
        with pytest.raises(ConfigError, match=rf"fair-adabn .* {name} has none\. .* vgg11-bn, resnet18 or tiny"):
            FairAdaBN().build(lambda network=network: network, DATA, {})


def test_three_groups_are_refused():
    with pytest.raises(ConfigError, match="fair-adabn compares two groups, and colour of planted has 3"):
        fresh(FairAdaBN(), planted_data(groups=3))


@pytest.mark.parametrize("number", [0, 1, 7])
def test_a_pruned_channel_is_exactly_nothing_in_both_branches(number):
    """Also after three steps with momentum and weight decay, in train and in eval mode; layer 1 feeds the stem."""
    learner = stirred(fresh(FairAdaBN(), DATA)).train()
    layer = learner.layers[number]
    apply_channel_mask_(learner, layer, [2, 5])
    optimizers = learner.optimizers(TrainPlan(lr=0.05, weight_decay=0.1))
    for _ in range(3):
        learner.training_step_(BATCH, optimizers, torch.Generator())
    norm = layer.norms[0].partition(".")[0]
    gone = torch.zeros(layer.channels, dtype=torch.bool)
    gone[[2, 5]] = True
    for mode in (True, False):
        learner.train(mode)
        maps = map_of(learner, norm, BATCH)
        assert torch.equal(maps[:, gone], torch.zeros_like(maps[:, gone]))
        for code in (0, 1):
            assert (maps[BATCH.group == code][:, ~gone].abs().amax((0, 2, 3)) > 0).all()
    assert torch.equal(kept_channels(learner, layer), ~gone)


def test_interrupted_training_goes_on_bit_for_bit():
    goes_on_bit_for_bit(FairAdaBN(), DATA)


def test_maps_come_in_the_batchs_order():
    learner = stirred(trained(FairAdaBN(), DATA, epochs=1))
    maps_are_the_batchs_own(learner, DATA)


def test_it_learns_the_planted_classes():
    assert accuracy(trained(FairAdaBN(), DATA), DATA) > 0.8
    assert methods.get("fair-adabn") is FairAdaBN


def test_a_whole_trial_masks_both_branches():
    last = whole_trial({"name": "fair-adabn", "hard": True})[-1]
    for branch in last.learner.network[22].branches:
        for name in ("weight", "bias"):
            assert torch.equal(getattr(branch, name) != 0, last.round.keep)
