from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from planted import (
    accuracy,
    as_batch,
    fresh,
    goes_on_bit_for_bit,
    maps_are_the_batchs_own,
    planted_data,
    trained,
    whole_trial,
)
from scipy.special import log_softmax
from torch.nn import functional

from scp_ray.errors import ConfigError
from scp_ray.methods.base import methods
from scp_ray.methods.domain_indep import DomainIndep, combined

DATA = planted_data()
BATCH = as_batch(DATA.splits["train"])
# two heads over three classes
EXAMPLE = torch.tensor([[[4.0, 1.0, 0.0], [-6.0, 0.0, 0.0]]])
RULES = ("sum-out", "conditional", "max", "sum-prob")


def answering(learner, rows):
    """The learner with a network that says what is given, (N, G * K)."""
    learner.network = torch.nn.Flatten()
    return learner, rows.flatten(1)


@pytest.mark.parametrize(
    ("inference", "group", "decision", "logits"),
    [
        ("sum-out", None, 1, [-2, 1, 0]),
        ("sum-prob", None, 0, None),
        ("conditional", [0], 0, [4, 1, 0]),
        ("conditional", [1], 1, [-6, 0, 0]),
        ("max", None, 0, [4, 1, 0]),
    ],
)
def test_rules_by_hand(inference, group, decision, logits):
    """Head 0 says class 0 by far, head 1 excludes it. Of equal logits the first counts."""
    learner, image = answering(fresh(DomainIndep(inference), DATA), EXAMPLE)
    given, predicted = learner.predict(image, None if group is None else torch.tensor(group))
    assert given.shape == (1, 3)
    assert predicted.tolist() == [decision]
    if logits is not None:
        assert given.tolist() == [logits]


def test_summed_probabilities_by_hand():
    """Head 0: e^4/(e^4+e+1) = 0.9362 and e/(e^4+e+1) = 0.0466; head 1: 0.0012 and 0.4994; sums 0.937 and 0.546."""
    first, second = math.exp(4) + math.e + 1, math.exp(-6) + 2
    expected = [math.exp(4) / first + math.exp(-6) / second, math.e / first + 1 / second, 1 / first + 1 / second]
    assert expected[:2] == [pytest.approx(0.937, abs=5e-4), pytest.approx(0.546, abs=5e-4)]
    logits = combined(EXAMPLE, "sum-prob")
    np.testing.assert_allclose(logits.exp()[0].numpy(), expected, rtol=1e-5)


def test_max_takes_each_classs_highest_logit():
    heads = torch.tensor([[[1.0, 5.0], [3.0, 2.0], [2.0, 6.0]]])
    assert combined(heads, "max").tolist() == [[3.0, 6.0]]


def test_own_head_sample_by_sample():
    heads = torch.arange(24.0).view(4, 3, 2)
    picked = combined(heads, "conditional", torch.tensor([2, 0, 1, 2]))
    assert picked.tolist() == [[4, 5], [6, 7], [14, 15], [22, 23]]


@pytest.mark.parametrize("code", [-1, 3])
def test_a_group_without_a_head_is_an_error(code):
    with pytest.raises(RuntimeError, match="out of bounds"):
        combined(torch.zeros(2, 3, 2), "conditional", torch.tensor([0, code]))


def test_asking_the_own_head_needs_the_group():
    learner = fresh(DomainIndep("conditional"), DATA)
    with pytest.raises(ConfigError, match=r"domain-indep needs the group.*sum-out, max or sum-prob"):
        learner(BATCH.image)
    with pytest.raises(ConfigError, match="domain-indep needs the group"):
        fresh(DomainIndep(), DATA).weighted_logits(BATCH.image)


@pytest.mark.parametrize("inference", ["sum-out", "max", "sum-prob"])
def test_the_other_rules_do_not_ask_for_the_group(inference):
    learner = fresh(DomainIndep(inference), DATA).eval()
    assert torch.equal(learner(BATCH.image), learner(BATCH.image, BATCH.group))


@pytest.mark.parametrize("groups", [2, 3])
def test_the_loss_is_a_softmax_within_the_own_head(groups):
    """Sample by sample with scipy; over all G*K outputs it would be another number."""
    learner, batch = fresh(DomainIndep(), planted_data(groups)), as_batch(planted_data(groups).splits["train"])
    assert learner.network[-1].out_features == 3 * groups
    assert set(batch.group.tolist()) == set(range(groups))
    learner.eval()
    with torch.no_grad():
        outputs = learner.network(batch.image).double().numpy()
        loss = learner.loss(batch).item()
    rows = zip(outputs, batch.group.tolist(), batch.label.tolist(), strict=True)
    own = [-log_softmax(z[3 * a : 3 * a + 3])[y] for z, a, y in rows]
    assert loss == pytest.approx(np.mean(own), rel=1e-5)


def test_a_batch_of_one_group_teaches_its_head_alone():
    learner = fresh(DomainIndep(), DATA).train()
    only = as_batch(DATA.splits["train"], (BATCH.group == 0).nonzero().flatten())
    learner.loss(only).backward()
    head = learner.network[-1]
    assert torch.equal(head.weight.grad[3:], torch.zeros(3, 64))
    assert torch.equal(head.bias.grad[3:], torch.zeros(3))
    assert (head.weight.grad[:3].abs().sum(1) > 0).all()


def test_a_constant_added_to_a_head_changes_nothing():
    learner = fresh(DomainIndep(), DATA).eval()
    before, decided = learner.loss(BATCH).item(), learner.predict(BATCH.image)[1]
    with torch.no_grad():
        learner.network[-1].bias[3:] += 7
    assert learner.loss(BATCH).item() == pytest.approx(before, abs=1e-5)
    assert torch.equal(learner.predict(BATCH.image)[1], decided)


@pytest.mark.parametrize("inference", RULES)
def test_identical_heads_are_vanilla(inference):
    """The same loss, and the same predictions by every rule."""
    learner, vanilla = fresh(DomainIndep(inference), DATA).eval(), fresh(methods.get("vanilla")(), DATA).eval()
    state = vanilla.network.state_dict()
    state |= {key: state[key].repeat(2, *[1] * (state[key].ndim - 1)) for key in ("26.weight", "26.bias")}
    learner.network.load_state_dict(state)
    expected = functional.cross_entropy(vanilla.network(BATCH.image), BATCH.label)
    assert learner.loss(BATCH).item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.equal(learner.predict(BATCH.image, BATCH.group)[1], vanilla.predict(BATCH.image)[1])


def test_saliencies_get_the_logits_that_were_trained():
    learner = fresh(DomainIndep(), DATA).eval()
    ((weight, logits),) = learner.weighted_logits(BATCH.image, BATCH.group)
    assert weight == 1
    assert functional.cross_entropy(logits, BATCH.label).item() == pytest.approx(learner.loss(BATCH).item(), abs=1e-6)


@pytest.mark.parametrize("inference", RULES)
def test_interrupted_training_goes_on_bit_for_bit(inference):
    goes_on_bit_for_bit(DomainIndep(inference), DATA)


def test_maps_come_in_the_batchs_order():
    maps_are_the_batchs_own(trained(DomainIndep("conditional"), DATA, epochs=1), DATA)


@pytest.mark.parametrize("inference", RULES)
def test_it_learns_the_planted_classes(inference):
    assert accuracy(trained(DomainIndep(inference), DATA), DATA) > 0.8
    assert methods.get("domain-indep") is DomainIndep


def test_a_whole_trial_answers_with_as_many_logits_as_there_are_classes():
    results = whole_trial({"name": "domain-indep", "inference": "conditional"})
    assert results[-1].learner.network[-1].out_features == 2 * results[-1].test.logits.shape[1] == 8
