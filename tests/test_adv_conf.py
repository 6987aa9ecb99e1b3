from __future__ import annotations

import math

import pytest
import torch
from planted import (
    accuracy,
    as_batch,
    changed,
    feed_of,
    fresh,
    goes_on_bit_for_bit,
    maps_are_the_batchs_own,
    planted_data,
    trained,
    whole_trial,
)
from torch.nn import functional

from scp_ray.activations import with_features
from scp_ray.loop.fit import fit_epochs
from scp_ray.maths.adversarial import balanced_cross_entropy, confusion_loss
from scp_ray.methods.adv_conf import AdvConf
from scp_ray.methods.base import methods
from scp_ray.parts import TrainPlan, state_to_cpu

DATA = planted_data()
BATCH = as_batch(DATA.splits["train"])


def stepped(method, epochs_before=0, **plan):
    """A learner's state before and after one step, and what the step recorded."""
    learner = fresh(method, DATA)
    learner.train()
    optimizers = learner.optimizers(TrainPlan(**plan))
    learner.begin_epoch_(epochs_before, 9)
    before = state_to_cpu(learner.state_dict())
    recorded = learner.training_step_(BATCH, optimizers, torch.Generator())
    return learner, before, state_to_cpu(learner.state_dict()), recorded


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([[0.0, 0.0]], math.log(2)),
        ([[7.0, 7.0], [-2.0, -2.0]], 0.693147),
        ([[4.0, -4.0]], 4.000335),  # ((ln(1 + e^-8)) + (8 + ln(1 + e^-8))) / 2
        ([[4.0, -4.0], [0.0, 0.0]], (4.000335 + 0.693147) / 2),
        ([[0.0, 0.0, 0.0]], math.log(3)),
    ],
)
def test_confusion_by_hand(logits, expected):
    assert confusion_loss(torch.tensor(logits)).item() == pytest.approx(expected, abs=1e-6)


def test_equal_logits_are_the_minimum_of_confusion():
    logits = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    confusion_loss(logits).backward()
    assert torch.equal(logits.grad, torch.zeros(3, 2, dtype=torch.float64))


def test_groups_count_equally_however_many_samples_they_have():
    """Three samples of group 0 at ln 2, one of group 1 at ln(1 + e^-2): the mean of the two, not of the four."""
    logits = torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 3.0]])
    loss = balanced_cross_entropy(logits, torch.tensor([0, 0, 0, 1]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-2))) / 2, abs=1e-6)


def test_a_group_that_is_absent_does_not_count():
    logits = torch.tensor([[0.0, 0.0, 5.0], [1.0, 1.0, 1.0]])
    loss = balanced_cross_entropy(logits, torch.tensor([2, 2]))
    expected = (math.log(1 + 2 * math.exp(-5)) + math.log(3)) / 2
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_phase_d_leaves_the_network_as_it_is():
    """Weights, running statistics and the count of batches, to the last bit; the head moves."""
    learner, before, after, recorded = stepped(AdvConf(schedule="epoch"), epochs_before=1)
    assert changed(before, after) == {"adversary.weight", "adversary.bias"}
    assert recorded["loss"] == recorded["adversary_loss"]
    assert all(norm.training and norm.track_running_stats for norm in learner.network if hasattr(norm, "momentum"))


def test_phase_d_sees_the_features_that_phase_m_sees():
    """Normalised by the batch: its loss is that of the train mode's features, and not that of eval mode's."""
    *_, recorded = stepped(AdvConf(schedule="epoch"), epochs_before=2)
    losses = {}
    for mode in (True, False):
        again = fresh(AdvConf(), DATA).train(mode)
        _, features = with_features(again.network, BATCH.image)
        losses[mode] = balanced_cross_entropy(again.adversary(features), BATCH.group).item()
    assert recorded["loss"].item() == losses[True]
    assert abs(losses[True] - losses[False]) > 1e-3


def test_phase_m_leaves_the_head_as_it_is():
    learner, before, after, recorded = stepped(AdvConf(schedule="epoch"), epochs_before=3)
    moved = changed(before, after)
    assert moved == {key for key in before if key.startswith("network.")}
    assert "adversary_loss" not in recorded
    assert all(parameter.grad is None for parameter in learner.adversary.parameters())


def test_by_epochs_the_players_take_turns():
    learner, pattern = fresh(AdvConf(schedule="epoch", training_ratio=3), DATA), ""
    before = state_to_cpu(learner.state_dict())
    for _ in fit_epochs(learner, feed_of(DATA, 48), TrainPlan(epochs=7, lr=0.01), seed=0):
        after = state_to_cpu(learner.state_dict())
        players = {key.partition(".")[0] for key in changed(before, after)}
        pattern += {"network": "M", "adversary": "D"}.get(" ".join(players), "?")
        before = after
    assert pattern == "MDDMDDM"


def test_by_steps_both_move_and_the_network_meets_the_head_that_has_just_learnt():
    """One step again, written out in full: D on the old head, then M through the new one, one set of statistics."""
    *_, after, recorded = stepped(AdvConf(alpha=0.7), epochs_before=1, lr=0.01, momentum=0.0, weight_decay=0.0)
    again = fresh(AdvConf(), DATA).train()
    features = []
    again.network[-1].register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    logits = again.network(BATCH.image)
    head = torch.optim.Adam(again.adversary.parameters(), lr=1e-3)
    each = functional.cross_entropy(again.adversary(features[0].detach()), BATCH.group, reduction="none")
    group_loss = (each[BATCH.group == 0].mean() + each[BATCH.group == 1].mean()) / 2
    group_loss.backward()
    head.step()
    confusion = -again.adversary(features[0]).log_softmax(1).sum(1).mean() / 2
    loss = functional.cross_entropy(logits, BATCH.label) + 0.7 * confusion
    parameters = list(again.network.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 0.01 * gradient * min(1.0, 5.0 / norm)
    for key, value in again.state_dict().items():
        torch.testing.assert_close(after[key], value, rtol=1e-5, atol=1e-6)
    assert recorded["adversary_loss"].item() == pytest.approx(group_loss.item(), abs=1e-6)
    assert recorded["loss"].item() == pytest.approx(loss.item(), abs=1e-6)
    assert recorded["confusion_loss"].item() == pytest.approx(confusion.item(), abs=1e-6)
    assert int(after["network.1.num_batches_tracked"]) == 1


def test_the_networks_step_is_no_longer_than_the_clip():
    """Plain SGD at lr 1: the step is the clipped gradient."""
    _, before, after, _ = stepped(AdvConf(alpha=50.0, clip_norm=0.25), lr=1.0, momentum=0.0, weight_decay=0.0)
    names = [name for name, _ in fresh(AdvConf(), DATA).network.named_parameters()]
    squared = sum((after[f"network.{n}"] - before[f"network.{n}"]).double().square().sum() for n in names)
    assert math.sqrt(squared) == pytest.approx(0.25, rel=1e-4)


def test_each_player_has_its_own_optimizer():
    learner = fresh(AdvConf(adversary_lr=0.02), DATA)
    optimizers = learner.optimizers(TrainPlan(lr=0.3, weight_decay=0.004))
    assert {name: type(o).__name__ for name, o in optimizers.items()} == {"sgd": "SGD", "adversary": "Adam"}
    held = {name: {id(p) for p in o.param_groups[0]["params"]} for name, o in optimizers.items()}
    assert held["sgd"] == {id(p) for p in learner.network.parameters()}
    assert held["adversary"] == {id(p) for p in learner.adversary.parameters()}
    assert [o.param_groups[0]["lr"] for o in optimizers.values()] == [0.3, 0.02]
    assert optimizers["sgd"].param_groups[0]["weight_decay"] == 0.004


def test_the_loss_is_phase_ms():
    learner = fresh(AdvConf(alpha=2.0), DATA).eval()
    logits, features = with_features(learner.network, BATCH.image)
    confusion = -learner.adversary(features).log_softmax(1).mean()
    expected = functional.cross_entropy(logits, BATCH.label) + 2 * confusion
    assert learner.loss(BATCH).item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_head_has_an_output_per_group():
    assert fresh(AdvConf(), planted_data(groups=3)).adversary.weight.shape == (3, 64)
    assert fresh(AdvConf(), planted_data(groups=3)).network[-1].out_features == 3


@pytest.mark.parametrize("method", [AdvConf(), AdvConf(schedule="epoch")])
def test_interrupted_training_goes_on_bit_for_bit(method):
    goes_on_bit_for_bit(method, DATA)


def test_maps_come_in_the_batchs_order():
    maps_are_the_batchs_own(trained(AdvConf(), DATA, epochs=1), DATA)


def test_the_head_learns_the_planted_group():
    """On a network that stands still: phase D alone, 60 steps of it."""
    learner = fresh(AdvConf(schedule="epoch", adversary_lr=0.02), DATA).train()
    learner.begin_epoch_(1, 9)
    optimizers = learner.optimizers(TrainPlan())
    losses = [learner.training_step_(BATCH, optimizers, torch.Generator())["loss"].item() for _ in range(60)]
    assert losses[0] > 0.5
    assert losses[-1] < 0.1


def test_the_network_learns_to_confuse_a_head_that_stands_still():
    """A head that tells the groups apart; phase M alone brings the confusion towards its minimum, ln 2."""
    learner = fresh(AdvConf(schedule="epoch", adversary_lr=0.02), DATA).train()
    optimizers = learner.optimizers(TrainPlan(lr=0.02))
    learner.begin_epoch_(1, 9)
    for _ in range(60):
        learner.training_step_(BATCH, optimizers, torch.Generator())
    learner.begin_epoch_(3, 9)
    steps = [learner.training_step_(BATCH, optimizers, torch.Generator()) for _ in range(40)]
    losses = [step["confusion_loss"].item() for step in steps]
    assert losses[0] > 1.2
    assert math.log(2) <= losses[-1] < 0.8


def test_it_learns_the_planted_classes():
    assert accuracy(trained(AdvConf(), DATA), DATA) > 0.8
    assert methods.get("adv-conf") is AdvConf


def test_the_game_goes_on_in_fine_tuning():
    """The head's state comes from the base; a round's epochs move it further."""
    base, *_, last = whole_trial("adv-conf")
    assert {"adversary_loss", "confusion_loss", "loss"} == set(base.means) == set(last.means)
    whole_trial({"name": "adv-conf", "schedule": "epoch"})
