from __future__ import annotations

import copy
import io
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from miniature import TRIAL
from torch import Tensor, nn
from torch.nn import functional

from scp_ray.backbones.tiny import Tiny
from scp_ray.config import TrialConfig, resolve
from scp_ray.maths.masks import load_masked_state_, mask_channels_
from scp_ray.methods.base import methods
from scp_ray.methods.hsic import HSIC
from scp_ray.methods.mfd import MFD
from scp_ray.methods.vanilla import Vanilla
from scp_ray.modes import drawing_from
from scp_ray.parts import Batch, FairnessData, Learner, Network, Split, TrainPlan
from scp_ray.trial import Result, run_trial, train_base

CLASSES = 5
# 11 samples of class 0 in three groups, 6 of class 1 in one, 4 of class 2 in two, 3 of class 3 in two, none of class 4
LABEL = torch.tensor([0] * 11 + [1] * 6 + [2] * 4 + [3] * 3)
GROUP = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2] + [1] * 6 + [0, 1, 1, 0] + [0, 1, 0])
CELLS = 8
BOTH = [HSIC(), MFD()]


def batch_of(label: Tensor = LABEL, group: Tensor = GROUP, *, seed: int = 0, size: int = 32) -> Batch:
    """Pictures of noise, redder with the class and brighter with the group."""
    image = torch.rand(len(label), 3, size, size, generator=torch.Generator().manual_seed(seed)) * 0.3
    image[:, 0] += 0.1 * label[:, None, None]
    image += 0.2 * group[:, None, None, None]
    return Batch(image, label, group, group[:, None])


def data_of(groups: int = 3) -> FairnessData:
    """What ``build`` looks at: the number of classes and the group codes of the training split."""
    codes = torch.arange(groups)
    empty = Split(torch.zeros(groups, 3, 32, 32).byte(), codes, codes[:, None], ("",) * groups, ("",) * groups)
    return FairnessData("noise", tuple("abcde"), ("tone",), None, {"train": empty})


def built(method: Any, *, seed: int = 0, groups: int = 3, dtype: torch.dtype = torch.float64) -> Learner:
    """The learner, with a teacher from another seed."""

    def backbone(seed: int) -> Network:
        return Tiny().build(CLASSES, image_size=32, seed=seed)

    teacher = Vanilla().build(lambda: backbone(7), data_of(groups), {})
    return method.build(lambda: backbone(seed), data_of(groups), {"vanilla": teacher.to(dtype)}).to(dtype)


def in_double(batch: Batch) -> Batch:
    return batch._replace(image=batch.image.double())


def steps_(learner: Learner, batches: list[Batch], lr: float = 0.01) -> list[dict[str, float]]:
    """One step on each batch; what was recorded."""
    learner.train()
    optimizers = learner.optimizers(TrainPlan(lr=lr))
    generator = torch.Generator().manual_seed(0)
    recorded = [learner.training_step_(batch, optimizers, generator) for batch in batches]
    assert all(not value.requires_grad for row in recorded for value in row.values())
    return [{name: value.item() for name, value in row.items()} for row in recorded]


def run_network(network: nn.Module, image: Tensor) -> tuple[np.ndarray, Tensor]:
    """Features and logits of a copy, by calling its layers: everything but the last, then the last."""
    layers = copy.deepcopy(network)
    with torch.no_grad():
        features = layers[:-1](image)
        return features.numpy(), layers[-1](features)


def gaussian(far: np.ndarray, bandwidth: float) -> np.ndarray:
    return np.exp(-far / (2 * bandwidth))


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(((x[:, None] - y[None]) ** 2).sum(2), 1e-12)


def hsic_by_quadruples(features: np.ndarray, group: np.ndarray) -> float:
    """The U-statistic; the distance of two one-hot rows is 2 unless they are equal."""
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    far, apart = distances(features, features), 2.0 * (group[:, None] != group[None])
    k, other = gaussian(far, far.mean()), gaussian(apart, apart.mean())
    i, j, q, r = np.array(list(permutations(range(len(group)), 4))).T
    return float((k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q])).mean())


def mmd_by_loops(teacher: np.ndarray, student: np.ndarray, label: np.ndarray, group: np.ndarray, sigma: float) -> float:
    """Sum over cells, biased, with the bandwidth of the batch."""
    bandwidth, total = sigma * distances(teacher, student).mean(), 0.0
    for c in set(label.tolist()):
        for a in set(group[label == c].tolist()):
            t, s = teacher[label == c], student[(label == c) & (group == a)]
            means = [gaussian(distances(x, y), bandwidth).mean() for x, y in ((t, t), (s, s), (t, s))]
            total += means[0] + means[1] - 2 * means[2]
    return total


def expected_terms(method: Any, learner: Learner, batch: Batch) -> tuple[float, float]:
    """Cross-entropy and the sum that the method adds, before its coefficient."""
    features, logits = run_network(learner.network, batch.image)
    entropy = -logits.log_softmax(1)[torch.arange(len(batch.label)), batch.label].mean().item()
    label, group = batch.label.numpy(), batch.group.numpy()
    if isinstance(method, HSIC):
        classes = [c for c in range(CLASSES) if (label == c).sum() >= 4 and len(set(group[label == c])) > 1]
        return entropy, sum(hsic_by_quadruples(features[label == c], group[label == c]) for c in classes)
    target, _ = run_network(learner._teacher[0].network, batch.image)
    return entropy, mmd_by_loops(target, features, label, group, method.sigma)


# the loss


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("method", "coefficient"),
    [(HSIC(), 0.5), (HSIC(weight=3.0), 3.0), (MFD(), 0.05), (MFD(weight=3.0, alpha=2.0, sigma=1.5), 3.0)],
)
def test_the_loss_is_cross_entropy_and_the_sum_by_loops(method: Any, coefficient: float, training: bool) -> None:
    learner, batch = built(method).train(training), in_double(batch_of())
    entropy, term = expected_terms(method, learner, batch)
    assert abs(term) > 0.02, "else nothing is tested"
    assert learner.loss(batch).item() == pytest.approx(entropy + coefficient * term, abs=1e-9)


@pytest.mark.parametrize(
    ("method", "name", "counted"), [(HSIC(), "hsic", {"active_classes": 2}), (MFD(), "mmd", {"cells": CELLS})]
)
def test_a_step_records_the_term_and_what_it_came_from(method: Any, name: str, counted: dict[str, int]) -> None:
    """Classes 0 and 2 have 4 samples of two groups; 3 + 1 + 2 + 2 cells hold samples."""
    learner, batch = built(method).train(), in_double(batch_of())
    entropy, term = expected_terms(method, learner, batch)
    (row,) = steps_(learner, [batch])
    coefficient = 0.5 if name == "hsic" else 0.05
    assert row == pytest.approx({"loss": entropy + coefficient * term, name: term} | counted, abs=1e-9)


@pytest.mark.parametrize("label", [torch.arange(5).repeat(3), torch.arange(5).repeat(4)], ids=["three", "one group"])
def test_hsic_without_an_active_class_is_cross_entropy(label: Tensor) -> None:
    """Three samples of each class, or a batch that holds group 0 alone."""
    group = torch.zeros_like(label) if len(label) == 20 else label.roll(1) % 3
    learner, batch = built(HSIC()).train(), in_double(batch_of(label, group))
    entropy, _ = expected_terms(HSIC(), learner, batch)
    loss = learner.loss(batch)
    assert loss.item() == pytest.approx(entropy, abs=1e-12)
    loss.backward()
    plain = Learner(*Tiny().build(CLASSES, image_size=32, seed=0)).double().train()
    plain.loss(batch).backward()
    for own, other in zip(learner.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(own.grad, other.grad, rtol=0, atol=1e-14)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("method", BOTH, ids=["hsic", "mfd"])
def test_any_number_of_group_codes(method: Any, groups: int) -> None:
    group = torch.arange(len(LABEL)) % groups
    learner, batch = built(method, groups=groups).train(), in_double(batch_of(group=group))
    entropy, term = expected_terms(method, learner, batch)
    coefficient = 0.5 if isinstance(method, HSIC) else 0.05
    assert learner.loss(batch).item() == pytest.approx(entropy + coefficient * term, abs=1e-9)


def test_codes_that_a_batch_lacks_change_nothing() -> None:
    """A batch of group 0, and one of group 1, where training data has three."""
    for method in BOTH:
        low, high = (in_double(batch_of(group=torch.full_like(LABEL, code))) for code in (0, 1))
        learner = built(method).eval()
        losses = [learner.loss(batch._replace(image=low.image)).item() for batch in (low, high)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-14)


@pytest.mark.parametrize("method", BOTH, ids=["hsic", "mfd"])
def test_features_that_are_zero_give_finite_gradients(method: Any) -> None:
    """The last norm silenced: its ReLU and the mean give 0 for every picture. And one picture of zeros."""
    for silence in (True, False):
        learner, batch = built(method, dtype=torch.float32).train(), batch_of()
        if silence:
            nn.init.zeros_(learner.network[22].weight)
            nn.init.zeros_(learner.network[22].bias)
        batch.image[0] = 0
        loss = learner.loss(batch)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() and p.grad.abs().max() < 1e3 for p in learner.parameters())


@pytest.mark.parametrize("method", BOTH, ids=["hsic", "mfd"])
def test_features_are_taken_after_dropout(method: Any) -> None:
    """What the last linear layer is given, drawn again from the same stream."""
    with drawing_from(0):
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 32 * 32, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES)
        ).double()
    teacher = Learner(copy.deepcopy(module), ())
    learner = method.build(lambda: Network(module, ()), data_of(), {"vanilla": teacher}).train()
    batch = in_double(batch_of())
    with drawing_from(3):
        loss = learner.loss(batch).item()
    with drawing_from(3):
        features, logits = run_network(module.train(), batch.image)
    assert (features == 0).mean() > 0.3
    label, group = LABEL.numpy(), GROUP.numpy()
    if isinstance(method, HSIC):
        term = 0.5 * sum(hsic_by_quadruples(features[label == c], group[label == c]) for c in (0, 2))
    else:  # the teacher drops nothing
        target, _ = run_network(copy.deepcopy(module).eval(), batch.image)
        term = 0.05 * mmd_by_loops(target, features, label, group, 0.5)
    assert loss == pytest.approx(functional.cross_entropy(logits, LABEL).item() + term, abs=1e-9)


# the teacher


def twins(group: Tensor, image: Tensor | None = None) -> float:
    """The sum of MMD² where the student is the teacher, both in eval mode."""
    learner = built(MFD(), seed=7).eval()
    batch = in_double(batch_of(torch.zeros(12).long(), group))
    learner.loss(batch if image is None else batch._replace(image=image.double()))
    return learner._recorded["mmd"].item()


def test_a_student_equal_to_its_teacher() -> None:
    """One group: 0. Two: above 0, unless their pictures are the same."""
    assert twins(torch.zeros(12).long()) == pytest.approx(0, abs=1e-12)
    halves = torch.arange(12) // 6
    assert twins(halves) > 1e-3
    assert twins(halves, batch_of(LABEL[:6], GROUP[:6]).image.repeat(2, 1, 1, 1)) == pytest.approx(0, abs=1e-12)


def test_the_teacher_is_frozen_and_no_part_of_the_student() -> None:
    learner = built(MFD(), dtype=torch.float32).train()
    teacher = learner._teacher[0]
    before = copy.deepcopy(teacher.state_dict())
    steps_(learner, [batch_of(seed=seed) for seed in range(3)], lr=0.1)
    assert not any(part.training for part in teacher.modules())
    assert not learner._target(batch_of().image.requires_grad_()).requires_grad
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), f"{key}: batch norm's statistics too"
    assert set(learner.state_dict()) == set(Learner(*Tiny().build(CLASSES, image_size=32, seed=0)).state_dict())
    assert teacher not in list(learner.modules())
    own = {id(p) for p in teacher.parameters()}
    optimized = learner.optimizers(TrainPlan())["sgd"].param_groups[0]["params"]
    assert not own & {id(p) for p in [*learner.parameters(), *optimized]}


def test_the_teacher_follows_the_images_to_their_device() -> None:
    learner = built(MFD(), dtype=torch.float32).to("meta")
    assert learner.loss(batch_of().to("meta")).device.type == "meta"
    assert all(p.device.type == "meta" for p in learner._teacher[0].parameters())


def test_defaults_and_needs() -> None:
    """lambda 0.5; 0.02 * 5 / 2 = 0.05; the teacher is a vanilla model."""
    assert HSIC().weight == 0.5
    assert HSIC().needs == ()
    assert MFD().coefficient == pytest.approx(0.05)
    assert MFD().sigma == 0.5
    assert MFD().needs == (Vanilla(),)
    assert {"hsic", "mfd"} <= set(methods.names())


# training


def trained(method: Any, steps: int = 60) -> tuple[Learner, list[dict[str, float]]]:
    """On pictures of two classes whose redness is the class and whose brightness is the group."""
    learner, index = built(method, dtype=torch.float32), torch.arange(24)
    return learner, steps_(learner, [batch_of(index // 12, index % 2, seed=seed) for seed in range(steps)])


@pytest.mark.parametrize(
    ("weak", "strong", "name"), [(HSIC(weight=0), HSIC(weight=1), "hsic"), (MFD(weight=0), MFD(weight=200), "mmd")]
)
def test_training_with_the_term_lowers_it(weak: Any, strong: Any, name: str) -> None:
    (_, without), (_, with_term) = trained(weak), trained(strong)
    ends = [np.mean([row[name] for row in rows[-5:]]) for rows in (without, with_term)]
    assert ends[1] < 0.5 * ends[0]
    for rows in (without, with_term):
        assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


@pytest.mark.parametrize("method", BOTH, ids=["hsic", "mfd"])
def test_the_state_of_a_pruned_learner_saves_and_loads(method: Any) -> None:
    learner, _ = trained(method, steps=2)
    layer = learner.layers[-1]
    conv, norms = learner.network.get_submodule(layer.name), [learner.network.get_submodule(n) for n in layer.norms]
    mask_channels_(conv, norms, [0, 5, 9])
    steps_(learner, [batch_of(seed=9)])
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    file.seek(0)
    fresh = built(method, seed=3, dtype=torch.float32)
    load_masked_state_(fresh, torch.load(file, weights_only=True))
    image = batch_of(seed=5).image
    assert torch.equal(fresh.eval()(image), learner.eval()(image))
    assert not fresh.network.get_submodule(layer.name).weight[[0, 5, 9]].any()


@pytest.mark.parametrize(("name", "extra"), [("hsic", {"hsic", "active_classes"}), ("mfd", {"mmd", "cells"})])
def test_a_trial_prunes_the_student_and_leaves_the_teacher_dense(name: str, extra: set[str]) -> None:
    """Base models, then two rounds of scoring, pruning and fine-tuning with the method's own loss."""
    trial = resolve(TrialConfig.from_dict(TRIAL | {"method": name}))
    bases: dict[str, Any] = {}
    for config in trial.bases().values():
        ends = [event for event in train_base(config, bases=bases) if isinstance(event, Result)]
        bases[config.method.plugin_name] = {k: v.clone() for k, v in ends[0].learner.state_dict().items()}
    results = [event for event in run_trial(trial.config, bases=bases) if isinstance(event, Result)]
    assert [result.index for result in results] == [0, 1, 2]
    assert all(set(result.means) == {"loss"} | extra for result in results)
    weight = results[-1].learner.network.get_submodule(trial.layer.name).weight
    assert (~weight.flatten(1).any(1)).sum() == 2 * trial.k
    if name == "mfd":
        for key, value in results[-1].learner._teacher[0].state_dict().items():
            assert torch.equal(value, bases["vanilla"][key]), key
