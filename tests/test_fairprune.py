from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from miniature import TRIAL
from torch import nn
from torch.nn import functional
from torch.optim import SGD

from scp_ray.config import TrialConfig, resolve
from scp_ray.errors import ConfigError, DataError, ScoreError
from scp_ray.maths.masks import load_masked_state_, parameter_mask
from scp_ray.maths.weight_ranking import layer_sparsity
from scp_ray.methods.base import methods
from scp_ray.methods.fairprune import FairPrune
from scp_ray.methods.obd import OBD
from scp_ray.parts import Batch, Learner
from scp_ray.trial import BaseModel, Result, run_trial, train_base

HEARD: list[dict[int, dict[str, torch.Tensor]]] = []


@dataclass(frozen=True)
class HeardFairPrune(FairPrune):
    """Keeps what it weighs."""

    def weigh(self, learner, means):
        HEARD.append(means)
        return super().weigh(learner, means)


@dataclass(frozen=True)
class HeardOBD(OBD):
    """Keeps what it weighs."""

    def weigh(self, learner, means):
        HEARD.append(means)
        return super().weigh(learner, means)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def plain_learner(privileged=1):
    """conv-BN-ReLU-pool-fc for 3 classes of 6 x 6 images; its 54 + 24 = 78 weights are planted."""
    conv, norm, act = nn.Conv2d(3, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(inplace=True)
    net = nn.Sequential(conv, norm, act, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    generator = stream(11)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2  # so that no softmax is all on one class
    learner = Learner(net, ())
    learner.privileged_code = privileged
    return learner.double()


PLAIN_WEIGHTS = 78


def batches_of(count=40, size=7, seed=2):
    """A list of batches; classes and groups in no even numbers."""
    generator = stream(seed)
    image = torch.randn(count, 3, 6, 6, generator=generator).double()
    label = torch.randint(3, (count,), generator=generator)
    group = (torch.rand(count, generator=generator) < 0.3).long()
    whole = Batch(image, label, group, group[:, None])
    return [Batch(*(part[start : start + size] for part in whole)) for start in range(0, count, size)]


def masks(learner):
    parts = [learner.get_submodule(name) for name in layer_sparsity(learner)]
    return torch.cat([(part.weight != 0).flatten() for part in parts])


def finished(method, learner=None, batches=None):
    del HEARD[:]
    learner = learner or plain_learner()
    method.finish_(learner, batches or batches_of())
    return learner


def test_defaults_and_ranges():
    method = methods.get("fairprune")()
    assert (method.pr, method.beta, method.samples, method.draws, method.steps) == (0.35, 0.33, 1024, 1, 1)
    assert method.post_hoc and methods.get("obd")().post_hoc
    assert [needed.plugin_name for needed in method.needs] == ["vanilla"]
    for fault in ({"pr": 1.0}, {"beta": 1.5}, {"draws": 0}, {"draws": "all"}, {"steps": 0}, {"samples": 0}):
        with pytest.raises(ConfigError):
            TrialConfig.from_dict(TRIAL | {"method": {"name": "fairprune"} | fault})
    for draws in (3, "exact", "fisher"):
        config = TrialConfig.from_dict(TRIAL | {"method": {"name": "obd", "draws": draws}})
        assert config.method == OBD(draws=draws)


def softmax_regression():
    """2 images of each group, one linear layer of 2 x 3 weights; the rest is numpy."""
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=(4, 3))
    group = np.array([0, 1, 1, 0])
    z = x @ weight.T + bias
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    curvature = (p * (1 - p))[:, :, None] * x[:, None] ** 2  # of each image: p_k (1 - p_k) x_j^2
    head = nn.Linear(3, 2).double()
    head.weight.data, head.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    learner = Learner(nn.Sequential(nn.Flatten(), head), ())
    image, codes = torch.from_numpy(x).view(4, 3, 1, 1), torch.from_numpy(group)
    batch = Batch(image, torch.tensor([0, 1, 0, 1]), codes, codes[:, None])
    return learner, [batch], weight, [curvature[group == code].mean(0) for code in (0, 1)]


@pytest.mark.parametrize("privileged", [0, 1])
@pytest.mark.parametrize("pr", [1 / 6, 0.35, 0.5, 0.8])
def test_fairprune_of_a_softmax_regression_by_numpy(privileged, pr):
    learner, batches, weight, of_group = softmax_regression()
    learner.privileged_code = privileged
    s = 0.5 * weight**2 * (of_group[1 - privileged] - 0.33 * of_group[privileged])
    expected = np.ones(6, bool)
    expected[np.argsort(s.ravel())[: round(6 * pr)]] = False
    finished(FairPrune(pr=pr, draws="exact"), learner, batches)
    assert masks(learner).tolist() == expected.tolist()
    assert np.array_equal(learner.network[1].weight.detach().numpy().ravel(), np.where(expected, weight.ravel(), 0))


def test_obd_of_a_softmax_regression_by_numpy():
    learner, batches, weight, of_group = softmax_regression()
    s = 0.5 * weight**2 * (of_group[0] + of_group[1]) / 2
    expected = np.ones(6, bool)
    expected[np.argsort(s.ravel())[:3]] = False
    assert masks(finished(OBD(pr=0.5, draws="exact"), learner, batches)).tolist() == expected.tolist()


def test_without_beta_it_is_obd_on_the_unprivileged_group():
    batches = batches_of()
    own = [Batch(*(part[batch.group == 0] for part in batch)) for batch in batches]
    left = finished(FairPrune(beta=0, draws="exact"), batches=batches)
    right = finished(OBD(draws="exact"), batches=[batch for batch in own if len(batch.label)])
    assert torch.equal(masks(left), masks(right))
    assert not torch.equal(masks(left), masks(finished(OBD(draws="exact"), batches=batches)))


def test_swapping_groups_at_beta_one_negates():
    means = {0: {"a": torch.tensor([0.4, 0.1])}, 1: {"a": torch.tensor([0.1, 0.9])}}
    method = FairPrune(beta=1)
    left = method.weigh(plain_learner(privileged=1), means)["a"]
    assert left.tolist() == pytest.approx([0.3, -0.8])
    assert torch.equal(method.weigh(plain_learner(privileged=0), means)["a"], -left)
    assert FairPrune().weigh(plain_learner(1), means)["a"].tolist() == pytest.approx([0.367, -0.197])


@pytest.mark.parametrize("draws", [1, "exact", "fisher"])
def test_obd_joins_the_groups_by_their_sizes(draws):
    """h_all = (n_0 h_0 + n_1 h_1) / (n_0 + n_1), drawn labels being the same; and it is not negative."""
    batches = batches_of()
    sizes = torch.cat([batch.group for batch in batches]).bincount().tolist()
    assert sizes[0] != sizes[1]
    finished(HeardFairPrune(draws=draws), batches=batches)
    apart = HEARD[0]
    finished(HeardOBD(draws=draws), batches=batches)
    together = HEARD[0][0]
    assert list(together) == ["network.0", "network.5"] == list(apart[0]), "in the network's order, for ties"
    for name, values in together.items():
        expected = (sizes[0] * apart[0][name] + sizes[1] * apart[1][name]) / sum(sizes)
        assert torch.allclose(values, expected, rtol=1e-12)
        assert (values >= 0).all() and values.sum() > 0


def test_mean_over_a_group_in_eval_mode_against_single_backward_passes():
    """fisher, by one backward pass for each image of group 1; the learner came in train mode and goes so."""
    learner, batches = plain_learner().train(), batches_of(200)
    finished(HeardFairPrune(draws="fisher"), learner, batches)
    assert learner.training and learner.network[1].training
    fresh = plain_learner().eval()
    squares = []
    for batch in batches:
        for image, label in zip(batch.image[batch.group == 1], batch.label[batch.group == 1], strict=True):
            loss = functional.cross_entropy(fresh(image[None]), label[None])
            squares.append(torch.autograd.grad(loss, fresh.network[0].weight)[0].square())
    assert torch.allclose(HEARD[0][1]["network.0"], torch.stack(squares).mean(0), rtol=1e-9)
    assert torch.equal(learner.network[1].running_mean, fresh.network[1].running_mean)


@pytest.mark.parametrize("pr", [0.1, 0.35, 0.5, 0.77])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("make", [FairPrune, OBD])
def test_sparsity_is_exact(make, steps, pr):
    learner = finished(make(pr=pr, steps=steps))
    assert len(masks(learner)) == PLAIN_WEIGHTS
    assert int((~masks(learner)).sum()) == round(pr * PLAIN_WEIGHTS)
    assert parameter_mask(learner.network[1], "weight") is None, "norms are not ranked"


def test_nothing_is_pruned_at_zero():
    learner = plain_learner()
    FairPrune(pr=0).finish_(learner, [])  # and nothing is read
    assert list(learner.state_dict()) == list(plain_learner().state_dict())


def test_pruned_weights_stay_zero_under_momentum_and_decay():
    learner = finished(FairPrune())
    before, kept = masks(learner), learner.network[5].weight.detach().clone()
    optimizer = SGD(learner.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)
    for batch in (batches_of() * 2)[:10]:
        optimizer.zero_grad()
        learner.loss(batch).backward()
        optimizer.step()
    assert torch.equal(masks(learner), before)
    assert not torch.equal(learner.network[5].weight, kept)
    again = plain_learner()
    load_masked_state_(again, learner.state_dict())
    assert torch.equal(masks(again), before)


def test_steps_measure_anew_with_the_masks_so_far():
    """Two steps to .5 are .25 in one, and then .5 of a learner that has those masks."""
    both = finished(FairPrune(pr=0.5, draws="exact", steps=2))
    halfway = finished(FairPrune(pr=0.25, draws="exact"))
    assert int((~masks(halfway)).sum()) == round(0.25 * PLAIN_WEIGHTS)
    finished(FairPrune(pr=0.5, draws="exact"), halfway)
    assert torch.equal(masks(both), masks(halfway))
    assert not torch.equal(masks(both), masks(finished(FairPrune(pr=0.5, draws="exact"))))


def test_how_the_images_are_batched_does_not_matter():
    left, first = finished(HeardFairPrune(), batches=batches_of(200, 200)), HEARD[0]
    right, second = finished(HeardFairPrune(), batches=batches_of(200, 7)), HEARD[0]
    for group in (0, 1):
        for name, values in first[group].items():
            assert torch.allclose(values, second[group][name], rtol=1e-9)
    assert torch.equal(masks(left), masks(right))


def test_a_few_balanced_images_of_each_group_are_scored(monkeypatch):
    """Up to 9 of each group, so 3 of each class: and in no chunk images of both groups."""
    scored = []

    class Watching(Learner):
        def weighted_logits(self, image, group=None):
            scored.append((image.detach().clone(), group))
            return super().weighted_logits(image, group)

    learner = Watching(plain_learner().network, ())
    learner.privileged_code = 0
    batches = batches_of(200)
    finished(FairPrune(samples=9), learner, batches)
    images, labels, groups = (torch.cat(column) for column in list(zip(*batches, strict=True))[:3])
    seen: Counter[Any] = Counter()
    for chunk, group in scored:
        assert len(group.unique()) == 1
        for image in chunk:
            (row,) = (images == image).all(3).all(2).all(1).nonzero()[:, 0].tolist()
            assert groups[row] == group[0]
            seen[int(groups[row]), int(labels[row])] += 1
    assert seen == {(group, label): 3 for group in (0, 1) for label in (0, 1, 2)}


class Exits(Learner):
    """Two exits of weights .5 and 2."""

    def __init__(self):
        network = plain_learner().network
        super().__init__(network, ())
        self.exit = nn.Linear(108, 3).double()
        self.exit.weight.data = torch.randn(3, 108, generator=stream(4)).double() / 5

    def weighted_logits(self, image, group=None):
        return [(0.5, self.exit(image.flatten(1))), (2.0, self(image, group))]


def test_exits_are_ranked_with_the_network():
    learner = Exits()
    learner.privileged_code = 0
    finished(HeardFairPrune(draws="exact"), learner)
    assert list(layer_sparsity(learner)) == list(HEARD[0][0]) == ["network.0", "network.5", "exit"]
    assert int((~masks(learner)).sum()) == round(0.35 * (PLAIN_WEIGHTS + 324))
    head, others = HEARD[0][0]["network.5"], HEARD[0]
    single = plain_learner(0)
    finished(HeardFairPrune(draws="exact"), single)
    assert torch.allclose(head, 2 * HEARD[0][0]["network.5"], rtol=1e-9), "tau = 2"
    assert others[0]["exit"].sum() > 0


def test_refusals():
    data = TrialConfig.from_dict(TRIAL).dataset.load()
    method, learner = FairPrune(), plain_learner()
    del learner.privileged_code
    method.take_(learner, data)
    assert learner.privileged_code == 0
    with pytest.raises(ConfigError, match=r"(?s)fairprune .*privileged_code is None.* obd"):
        method.take_(learner, replace(data, privileged_code=None))
    OBD().take_(learner, replace(data, privileged_code=None))
    train = data.splits["train"]
    three = replace(train, attributes=torch.arange(len(train))[:, None] % 3)
    with pytest.raises(ConfigError, match="compares two groups, and tone of synthetic has 3"):
        method.take_(learner, replace(data, splits={**data.splits, "train": three}))


def test_one_group_alone_cannot_be_compared():
    batches = [batch._replace(group=torch.zeros_like(batch.group)) for batch in batches_of()]
    with pytest.raises(ScoreError, match="no training images of group 1"):
        finished(FairPrune(), batches=batches)


def test_batches_that_are_used_up_are_refused():
    with pytest.raises(DataError, match="gone through again"):
        FairPrune().finish_(plain_learner(), iter(batches_of()))


@pytest.mark.parametrize("name", ["fairprune", "obd"])
def test_a_trial_prunes_the_vanilla_model_and_keeps_its_masks(name):
    """The base is vanilla's weights with 35 % masked, untrained further; a round joins its channel masks to them."""
    trial = resolve(TrialConfig.from_dict(TRIAL | {"method": {"name": name, "samples": 24}, "rounds": 1}))
    vanilla, own = trial.bases().values()
    trained = list(train_base(vanilla))[-1]
    assert isinstance(trained, Result)
    state = {key: value.clone() for key, value in trained.learner.state_dict().items()}
    (base,) = [event for event in train_base(own, bases={"vanilla": state}) if isinstance(event, Result)]
    pruned = base.learner
    names = list(layer_sparsity(pruned))
    assert len(names) == 9
    total = sum(state[f"{part}.weight"].numel() for part in names)
    assert sum(int((pruned.get_submodule(part).weight == 0).sum()) for part in names) == round(0.35 * total)
    for part in names:
        weight = pruned.get_submodule(part).weight
        assert torch.equal(weight[weight != 0], state[f"{part}.weight"][weight != 0])
    kept = {key: value.clone() for key, value in pruned.state_dict().items()}
    rounds = run_trial(trial.config, BaseModel(kept, base.val.report), bases={"vanilla": state})
    *_, last = [event for event in rounds if isinstance(event, Result)]
    assert last.round is not None
    held = {part: kept[f"{part}.parametrizations.weight.0.keep"] for part in names}
    for part, keep in held.items():
        assert (last.learner.get_submodule(part).weight[~keep] == 0).all(), part
    pruned_layer = last.learner.network.get_submodule(last.learner.layers[-1].name)
    assert (pruned_layer.weight[list(last.round.channels)] == 0).all()
