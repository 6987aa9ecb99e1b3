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

from scp_ray.loop.fit import fit_epochs
from scp_ray.maths.adversarial import projected_gradient, reversal_ramp, reverse_gradient
from scp_ray.maths.masks import load_masked_state_
from scp_ray.methods.adv_ref import AdvRef
from scp_ray.methods.base import methods
from scp_ray.parts import TrainPlan, state_to_cpu

DATA = planted_data()
BATCH = as_batch(DATA.splits["train"])


def at_progress(method, progress, backbone="tiny"):
    learner = fresh(method, DATA, backbone).train()
    learner.progress.fill_(progress)
    return learner


def test_reversal_is_the_identity_forward():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(reverse_gradient(x, torch.tensor(0.3)), x)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 2.0])
def test_reversal_multiplies_the_gradient_by_minus_its_strength(strength):
    """d/dx sum(w * x^3) = 3 w x^2: (3, 24) at x = (1, -2), w = (1, 2)."""
    x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, 2.0], dtype=torch.float64)
    (weights * reverse_gradient(x, torch.tensor(strength, dtype=torch.float64)) ** 3).sum().backward()
    torch.testing.assert_close(x.grad, -strength * torch.tensor([3.0, 24.0], dtype=torch.float64))


@pytest.mark.parametrize(("p", "expected"), [(0, 0.0), (0.1, 0.462117), (0.25, 0.848284), (1, 0.999909)])
def test_the_ramp_by_hand(p, expected):
    """2/(1+e^-1) - 1 = 0.462117 at a tenth of the way."""
    assert reversal_ramp(torch.tensor(float(p))).item() == pytest.approx(expected, abs=1e-6)


def test_progress_is_the_share_of_epochs_that_are_over_and_never_falls():
    learner, seen = fresh(AdvRef(), DATA), []
    for epochs in (4, 2):  # base training, then fine-tuning
        for epoch in range(epochs):
            learner.begin_epoch_(epoch, epochs)
            seen.append(learner.progress.item())
    assert seen == [0, 0.25, 0.5, 0.75, 0.75, 0.75]
    restored = fresh(AdvRef(), DATA)
    load_masked_state_(restored, state_to_cpu(learner.state_dict()))
    restored.begin_epoch_(0, 2)
    assert restored.progress.item() == 0.75


def gradients_of(learner, loss):
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in learner.named_parameters()}


def parts_of(learner, batch):
    """Class loss and balanced group loss, from a forward pass by a hook of our own."""
    features = []
    handle = learner.network[-1].register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    logits = learner.network(batch.image)
    handle.remove()
    each = functional.cross_entropy(learner.adversary(features[0]), batch.group, reduction="none")
    groups = [each[batch.group == code].mean() for code in (0, 1)]
    return functional.cross_entropy(logits, batch.label), sum(groups) / 2


@pytest.mark.parametrize(("strength", "progress"), [(1.0, 0.1), (2.0, 1.0), (0.5, 0.25)])
def test_the_network_climbs_what_the_head_descends(strength, progress):
    """Every parameter's gradient is that of CE - lambda CE_dom, the head's that of CE_dom."""
    method = AdvRef(strength=strength)
    learner = at_progress(method, progress)
    loss = learner.loss(BATCH)
    found = gradients_of(learner, loss)
    again = at_progress(method, progress)
    own, groups = parts_of(again, BATCH)
    assert loss.item() == pytest.approx((own + groups).item(), abs=1e-6)
    reach = strength * (2 / (1 + math.exp(-10 * progress)) - 1)
    network = dict(again.network.named_parameters())
    expected = dict(
        zip(network, torch.autograd.grad(own - reach * groups, list(network.values()), retain_graph=True), strict=True)
    )
    head = torch.autograd.grad(groups, list(again.adversary.parameters()))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[f"network.{name}"], gradient, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found["adversary.weight"], head[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["adversary.bias"], head[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("strength", "progress"), [(0.0, 1.0), (1.0, 0.0)])
def test_strength_nothing_gives_vanillas_gradients(strength, progress):
    """Also in the first epoch, where the ramp is 0."""
    learner = at_progress(AdvRef(strength=strength), progress)
    found = gradients_of(learner, learner.loss(BATCH))
    vanilla = fresh(methods.get("vanilla")(), DATA).train()
    expected = gradients_of(vanilla, functional.cross_entropy(vanilla.network(BATCH.image), BATCH.label))
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    assert found["adversary.weight"].abs().sum() > 0


def test_one_step_moves_network_and_head():
    learner = at_progress(AdvRef(), 0.5)
    before = state_to_cpu(learner.state_dict())
    recorded = learner.training_step_(BATCH, learner.optimizers(TrainPlan()), torch.Generator())
    assert set(recorded) == {"loss"}
    assert changed(before, state_to_cpu(learner.state_dict())) == set(before) - {"progress"}


def test_projected_gradient_by_hand():
    """g_c = (1, 2), g_d = (2, 0): along = 2/4, so (1, 2) - (1 + 1/2) (2, 0) = (-2, 2); with alpha 0, (0, 2)."""
    wanted, unwanted = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])
    assert projected_gradient(wanted, unwanted, 1.0).tolist() == [-2.0, 2.0]
    assert projected_gradient(wanted, unwanted, 0.0).tolist() == [0.0, 2.0]


def test_without_alpha_the_update_is_orthogonal_to_the_heads_gradient():
    draw = torch.Generator().manual_seed(0)
    wanted, unwanted = torch.randn(2, 4, 3, 3, 3, generator=draw, dtype=torch.float64)
    update = projected_gradient(wanted, unwanted, 0.0)
    assert abs(float((update * unwanted).sum())) < 1e-12
    assert abs(float((wanted * unwanted).sum())) > 0.1


@pytest.mark.parametrize(("size", "projected"), [(1e-5, False), (0.9e-5, False), (1.1e-5, True), (0.0, False)])
def test_a_tiny_gradient_is_not_projected_on(size, projected):
    """g_c = (1, 0), g_d = (size, 0): what is left is 0 - alpha g_d, or g_c - alpha g_d."""
    update = projected_gradient(torch.tensor([1.0, 0.0]).double(), torch.tensor([size, 0.0]).double(), 2.0)
    assert update[0].item() == pytest.approx((0.0 if projected else 1.0) - 2 * size, abs=1e-12)
    assert update[1] == 0


def test_a_projected_step_written_out_in_full():
    """Each tensor by itself, in float64; the head takes Adam's step on its own gradient."""
    method = AdvRef(projection=True, alpha=0.4)
    learner, again = (fresh(method, DATA).double().train() for _ in range(2))
    batch = BATCH._replace(image=BATCH.image.double())
    learner.begin_epoch_(3, 9)
    optimizers = learner.optimizers(TrainPlan(lr=0.1, momentum=0.0, weight_decay=0.0))
    recorded = learner.training_step_(batch, optimizers, torch.Generator())
    logits = again.network(batch.image)
    own = functional.cross_entropy(logits, batch.label)
    each = functional.cross_entropy(again.adversary(logits), batch.group, reduction="none")
    groups = (each[batch.group == 0].mean() + each[batch.group == 1].mean()) / 2
    for parameter, moved in zip(again.network.parameters(), learner.network.parameters(), strict=True):
        (c,), (d,) = (torch.autograd.grad(loss, parameter, retain_graph=True) for loss in (own, groups))
        step = c - 0.4 * d
        if d.norm() > 1e-5:
            step = step - (c * d).sum() / (d * d).sum() * d
        torch.testing.assert_close(moved, parameter - 0.1 * step, rtol=1e-6, atol=1e-9)
    head = torch.optim.Adam(again.adversary.parameters(), lr=1e-3)
    groups.backward()
    head.step()
    torch.testing.assert_close(learner.adversary.weight, again.adversary.weight, rtol=1e-6, atol=1e-9)
    assert recorded["loss"].item() == pytest.approx(own.item())
    assert recorded["adversary_loss"].item() == pytest.approx(groups.item())


def test_with_projection_the_head_learns_always_and_the_network_every_third_epoch():
    learner, pattern = fresh(AdvRef(projection=True), DATA), []
    before = state_to_cpu(learner.state_dict())
    for _ in fit_epochs(learner, feed_of(DATA, 48), TrainPlan(epochs=7, lr=0.01), seed=0):
        after = state_to_cpu(learner.state_dict())
        pattern.append(sorted({key.partition(".")[0] for key in changed(before, after)}))
        before = after
    both, head = ["adversary", "network"], ["adversary"]
    assert pattern == [both, head, head, both, head, head, both]


def test_what_the_head_reads():
    """Penultimate features (64 of the tiny network); with projection the class logits (3)."""
    four = planted_data(groups=4)
    assert fresh(AdvRef(), four).adversary.weight.shape == (4, 64)
    assert fresh(AdvRef(projection=True), four).adversary.weight.shape == (4, 3)


@pytest.mark.parametrize("method", [AdvRef(), AdvRef(projection=True), AdvRef(projection=True, training_ratio=1)])
def test_interrupted_training_goes_on_bit_for_bit(method):
    goes_on_bit_for_bit(method, DATA)


@pytest.mark.parametrize("method", [AdvRef(), AdvRef(projection=True)])
def test_maps_come_in_the_batchs_order(method):
    maps_are_the_batchs_own(trained(method, DATA, epochs=1), DATA)


@pytest.mark.parametrize(
    ("method", "epochs", "lr"),
    [(AdvRef(), 20, 0.02), (AdvRef(projection=True, alpha=0.1, adversary_lr=0.05), 31, 0.05)],
)
def test_it_learns_the_planted_classes(method, epochs, lr):
    assert accuracy(trained(method, DATA, epochs, lr), DATA) > 0.8
    assert methods.get("adv-ref") is AdvRef


def test_fine_tuning_stays_where_the_ramp_had_got_to():
    """Two epochs of base training end at 1/2, and so do the two of each round; the learner is the trial's own."""
    assert [result.learner.progress.item() for result in whole_trial("adv-ref")] == [0.5, 0.5, 0.5]
    whole_trial({"name": "adv-ref", "projection": True})
