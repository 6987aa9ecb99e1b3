"""Multi-exit training: its exits, its loss, and the threshold that validation chooses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scp_ray.backbones.base import backbones
from scp_ray.errors import ConfigError
from scp_ray.loop.evaluate import evaluate
from scp_ray.maths.exits import choose_exits
from scp_ray.maths.fate import fate
from scp_ray.maths.masks import load_masked_state_
from scp_ray.maths.report import fairness_report
from scp_ray.methods.me import MultiExit, MultiExitLearner
from scp_ray.modes import drawing_from
from scp_ray.parts import Batch, Evaluation, FairnessData, Split, TrainPlan

SIZE = 96


def data(size: int = SIZE, classes: int = 3) -> FairnessData:
    split = Split(torch.zeros(4, 3, size, size, dtype=torch.uint8), torch.arange(4) % classes, torch.zeros(4, 1).long(),
                  ("a",) * 4, ("a",) * 4)  # fmt: skip
    return FairnessData("d", tuple("xyz"[:classes]), ("g",), 0, {"train": split, "val": split, "test": split})


def learner(method: MultiExit | None = None, backbone: str = "tiny", size: int = SIZE) -> MultiExitLearner:
    made = backbones.get(backbone)()
    with drawing_from(3):
        built = (method or MultiExit(pooled=8)).build(
            lambda outputs=3: made.build(outputs, image_size=size, seed=0), data(size), {}
        )
    assert isinstance(built, MultiExitLearner)
    return built


def images(count: int = 6, size: int = SIZE) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def batch(count: int = 6) -> Batch:
    group = torch.arange(count) % 2
    return Batch(images(count), torch.arange(count) % 3, group, group[:, None])


# methods.md, section 6: confidences by exit, the threshold, what happens where no exit is sure
@pytest.mark.parametrize(
    ("confidence", "threshold", "fallback", "expected"),
    [
        ((0.5, 0.85, 0.6, 0.7, 0.9), 0.8, "most_confident", 1),
        ((0.5, 0.85, 0.6, 0.7, 0.9), 0.8, "final", 1),
        ((0.5, 0.6, 0.7, 0.55, 0.65), 0.8, "final", 4),
        ((0.5, 0.6, 0.7, 0.55, 0.65), 0.8, "most_confident", 2),
        ((0.9, 0.99, 0.7, 0.55, 0.65), 1.01, "final", 4),
        ((0.1, 0.2, 0.3, 0.4, 0.5), 0.0, "most_confident", 0),
        ((0.1, 0.8, 0.9, 0.4, 0.5), 0.8, "final", 1),
    ],
)
def test_choose_exits(confidence: tuple[float, ...], threshold: float, fallback: Any, expected: int) -> None:
    assert choose_exits(torch.tensor(confidence)[:, None], threshold, fallback).tolist() == [expected]


@pytest.mark.parametrize("fallback", ["most_confident", "final"])
def test_a_whole_batch_is_each_sample_in_turn(fallback: Any) -> None:
    """Against the walk through the exits that the paper describes."""
    confidence = torch.rand(5, 200, generator=torch.Generator().manual_seed(1))
    found = choose_exits(confidence, 0.7, fallback).tolist()
    for sample, exit in zip(confidence.T.tolist(), found, strict=True):
        walked = next((index for index in range(4) if sample[index] >= 0.7), None)
        if walked is None:
            walked = 4 if fallback == "final" else sample.index(max(sample))
        assert exit == walked


# section 1.4: channels after the stages; tau as the released code has them
@pytest.mark.parametrize(
    ("backbone", "channels", "tau"),
    [
        ("tiny", [16, 32, 64, 64], (0.3, 0.45, 0.6, 0.75, 0.9)),
        ("vgg11", [128, 256, 512, 512], (0.3, 0.45, 0.6, 0.75, 0.9)),
        ("resnet18", [64, 128, 256, 512], (1, 1, 1, 1, 1)),
    ],
)
def test_exits_of_the_backbones(backbone: str, channels: list[int], tau: tuple[float, ...]) -> None:
    built = learner(backbone=backbone)
    assert [each[0].in_channels for each in built.exits] == channels
    assert built.tau == tau
    with torch.no_grad():
        assert built.exit_logits(images(2)).shape == (5, 2, 3)


def test_an_exit_is_linear_in_its_map() -> None:
    """No activation and no norm: f(2x) - f(0) = 2 (f(x) - f(0))."""
    branch = learner().exits[1]
    x = torch.rand(1, 32, 24, 24, generator=torch.Generator().manual_seed(2))
    zero = branch(torch.zeros_like(x))
    torch.testing.assert_close(branch(2 * x) - zero, 2 * (branch(x) - zero), rtol=1e-3, atol=1e-4)
    weights = [part.weight.shape for part in branch if hasattr(part, "weight")]
    assert weights == [(64, 32, 3, 3), (32, 64, 3, 3), (3, 32)]


def test_the_loss_is_the_weighted_sum_over_exits() -> None:
    built = learner().eval()
    given = batch()
    logits = built.exit_logits(given.image)
    expected = sum(
        tau * functional.cross_entropy(logits[index], given.label)
        for index, tau in enumerate((0.3, 0.45, 0.6, 0.75, 0.9))
    )
    torch.testing.assert_close(built.loss(given), expected)
    torch.testing.assert_close(logits[-1], built.network(given.image))
    torch.testing.assert_close(logits[0], built.exits[0](built.network[:6](given.image)))


def test_every_exit_is_trained() -> None:
    built = learner()
    before = {key: value.clone() for key, value in built.state_dict().items()}
    optimizers = built.optimizers(TrainPlan(lr=0.1))
    built.train().training_step_(batch(), optimizers, torch.Generator())
    for key, value in built.state_dict().items():
        if key.endswith("weight"):
            assert not torch.equal(value, before[key]), key


def test_sure_samples_leave_early_and_say_where() -> None:
    built = learner().eval()
    heads = built.exit_logits(images())
    built.threshold.fill_(0)
    answer = built.answer(images())
    assert answer.head is not None and answer.head.tolist() == [0] * 6
    torch.testing.assert_close(answer.logits, heads[0])
    built.threshold.fill_(2)
    answer = built.answer(images())
    surest = heads.softmax(2).amax(2).argmax(0)
    assert torch.equal(answer.head, surest)
    assert torch.equal(answer.prediction, heads[surest, torch.arange(6)].argmax(1))
    assert torch.equal(built.predict(images())[1], answer.prediction)


def outputs(heads: Tensor, label: Tensor, group: Tensor) -> Evaluation:
    return Evaluation(label, group[:, None], heads[-1], heads[-1].argmax(1), None, heads)


def planted() -> tuple[Evaluation, tuple[float, ...]]:
    """40 samples: exit 0 is fair and mostly right, at confidence 0.9; the head calls all of group 1 class 1."""
    generator = torch.Generator().manual_seed(5)
    label, group = torch.arange(40) % 2, torch.arange(40) // 20
    said = torch.stack([label, label, label, label, torch.where(group == 0, label, torch.ones_like(label))])
    wrong = torch.rand(5, 40, generator=generator) < torch.tensor([0.2, 0.1, 0.1, 0.1, 0.0])[:, None]
    said = torch.where(wrong, 1 - said, said)
    sure = torch.tensor([0.9, 0.6, 0.6, 0.6, 0.97])[:, None].expand(5, 40)
    margin = (sure / (1 - sure)).log()
    heads = functional.one_hot(said, 2) * margin[:, :, None]
    return outputs(heads, label, group), (0.8, 0.95)


def test_the_threshold_is_the_one_with_the_best_fate() -> None:
    evaluation, thresholds = planted()
    assert evaluation.heads is not None
    vanilla = fairness_report(evaluation.label, evaluation.prediction, evaluation.attributes[:, 0], num_classes=2)
    at = {0.8: evaluation.heads[0].argmax(1), 0.95: evaluation.heads[4].argmax(1)}  # all leave at exit 0; none does
    fates = {}
    for threshold, prediction in at.items():
        report = fairness_report(evaluation.label, prediction, evaluation.attributes[:, 0], num_classes=2)
        fates[threshold] = fate(report.f1_mean, report.eodd, f1_baseline=vanilla.f1_mean, gap_baseline=vanilla.eodd)
    assert fates[0.8] > fates[0.95] + 0.1
    for order in (thresholds, thresholds[::-1]):
        method, built = MultiExit(thresholds=order, pooled=8), learner()
        assert method.calibrate_(built, evaluation, vanilla)
        assert float(built.threshold) == 0.8


def test_fate_goes_before_f1() -> None:
    """The head is wrong of two of group 1, the first exit of three of either group: fairer, and worse."""
    label, group = torch.arange(40) % 2, torch.arange(40) // 20
    said = label.repeat(5, 1)
    said[0, [0, 1, 2, 20, 21, 22]] ^= 1
    said[4, [20, 22]] ^= 1
    sure = torch.tensor([0.9, 0.6, 0.6, 0.6, 0.97])[:, None].expand(5, 40)
    evaluation = outputs(functional.one_hot(said, 2) * (sure / (1 - sure)).log()[:, :, None], label, group)
    vanilla = fairness_report(label, torch.where(group == 0, label, torch.ones_like(label)), group, num_classes=2)
    reports = [fairness_report(label, said[index], group, num_classes=2) for index in (0, 4)]
    assert reports[0].f1_mean < reports[1].f1_mean and reports[0].eodd < reports[1].eodd
    fates = [fate(each.f1_mean, each.eodd, f1_baseline=vanilla.f1_mean, gap_baseline=vanilla.eodd) for each in reports]
    assert fates[0] > fates[1]
    built = learner()
    MultiExit(thresholds=(0.8, 0.95), pooled=8).calibrate_(built, evaluation, vanilla)
    assert float(built.threshold) == 0.8


def test_without_a_reference_f1_decides_and_the_first_of_equals_wins() -> None:
    evaluation, _ = planted()
    right = evaluation.heads.clone()  # type: ignore[union-attr]
    right[4] = functional.one_hot(evaluation.label, 2) * math.log(0.97 / 0.03)
    built = learner()
    MultiExit(thresholds=(0.8, 0.95, 0.96), pooled=8).calibrate_(
        built, outputs(right, evaluation.label, evaluation.attributes[:, 0]), None
    )
    assert float(built.threshold) == 0.95


def test_the_threshold_is_saved_with_the_weights() -> None:
    built = learner()
    built.threshold.fill_(0.95)
    other = learner()
    load_masked_state_(other, built.state_dict())
    assert float(other.threshold) == 0.95


def test_evaluation_keeps_exits_and_all_logits() -> None:
    built, given = learner(), [batch(6), batch(4)]
    evaluation = evaluate(built, given)
    assert evaluation.head is not None and evaluation.head.shape == (10,)
    assert evaluation.heads is not None and evaluation.heads.shape == (5, 10, 3)
    both = torch.cat([built.eval().exit_logits(each.image) for each in given], 1)
    torch.testing.assert_close(evaluation.heads, both)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MultiExit(thresholds=()), "thresholds: got none"),
        (lambda: learner(MultiExit(tau=(1.0, 1.0), pooled=8)), "got 2 weights; tiny has 5 exits"),
        (lambda: learner(size=32), "at least 3 x 3 after every stage; those of tiny go down to 2 at 32 px"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_backbone_without_stages_is_refused() -> None:
    network = backbones.get("tiny")().build(3, image_size=SIZE, seed=0)._replace(stages=(), name="other")
    with pytest.raises(ConfigError, match="backbone other names none"):
        MultiExit().build(lambda outputs=3: network, data(), {})
