"""Any torch CNN, ordinary DataLoaders, no Ray."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import scp_ray
from scp_ray.errors import BackboneError, ConfigError, DataError, UnknownNameError
from scp_ray.loop.stopping import StopRule
from scp_ray.parts import Evaluation


class Odd(nn.Module):
    """A network that no library knows: functional pooling, a residual addition, one grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 10, 3, padding=1)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.grouped(x)
        x = torch.relu(self.last(nn.functional.max_pool2d(x, 2)))
        return self.head(x.mean((2, 3)))


def loader(seed: int, count: int = 120, shuffle: bool = False) -> DataLoader[tuple[Tensor, ...]]:
    """Class = how green a picture is, with doubt between neighbours; group = how red it is, tied to the class."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (count,), generator=generator)
    group = (torch.rand(count, generator=generator) < 0.2 + 0.3 * (label == 2)).long()
    image = 0.3 * torch.rand(count, 3, 12, 12, generator=generator)
    image[:, 1] += (0.15 * label + 0.08 * torch.randn(count, generator=generator))[:, None, None]
    image[:, 0] += 0.3 * group[:, None, None]
    return DataLoader(TensorDataset(image.clamp(0, 1), label, group), batch_size=16, shuffle=shuffle)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    model = Odd()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(12):
        for image, label, _ in loader(1):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(image), label).backward()
            optimizer.step()
    return model


def test_the_model_is_pruned_on_a_copy(trained: nn.Module) -> None:
    """10 channels, pr_c 0.2: 2 a round. The model that was given stays as it was, mode included."""
    before, mode = copy.deepcopy(trained.state_dict()), trained.training
    result = scp_ray.prune_for_fairness(trained, loader(1, shuffle=True), loader(2), pr_c=0.2, rounds=3, select="last")
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    assert trained.training is mode
    assert [len(each.channels) for each in result.rounds] == [2, 2, 2]
    gone = sorted(channel for each in result.rounds for channel in each.channels)
    assert len(set(gone)) == 6
    assert not result.rounds[-1].keep[gone].any()
    assert isinstance(result.model, Odd)


def test_pruned_channels_are_silent_in_the_result(trained: nn.Module) -> None:
    result = scp_ray.prune_for_fairness(trained, loader(1), loader(2), pr_c=0.3, rounds=1, select="round:1")
    channels = list(result.rounds[0].channels)
    assert result.model.last(torch.randn(2, 8, 6, 6))[:, channels].abs().max() == 0
    assert result.model(torch.rand(2, 3, 12, 12)).isfinite().all()


def test_the_norm_behind_a_layer_is_silenced_with_it(trained: nn.Module) -> None:
    result = scp_ray.prune_for_fairness(trained, loader(1), loader(2), layer="stem", pr_c=0.3, rounds=1, select="last")
    model = result.model.eval()
    out = model.norm(model.stem(torch.rand(2, 3, 12, 12)))
    if result.selected == 1:
        assert out[:, list(result.rounds[0].channels)].abs().max() == 0


def test_fate_of_each_round_follows_from_its_predictions(trained: nn.Module) -> None:
    """FATE = F1_m / F1_b - gap_m / gap_b, with F1 by scikit-learn."""
    from sklearn.metrics import f1_score

    result = scp_ray.prune_for_fairness(trained, loader(1), loader(2), pr_c=0.2, rounds=2)

    def f1(outputs: Evaluation) -> float:
        scores = []
        for code in (0, 1):
            rows = outputs.attributes[:, 0] == code
            scores.append(f1_score(outputs.label[rows], outputs.prediction[rows], average="macro", zero_division=0))
        return sum(scores) / 2

    for index, each in enumerate(result.rounds, start=1):
        expected = f1(each.val) / f1(result.base) - each.val.report.eodd / result.base.report.eodd
        assert result.fates[index] == pytest.approx(expected)
    assert result.fates[0] == 0


def test_round_zero_wins_where_nothing_is_better(trained: nn.Module) -> None:
    """A fine-tuning rate that ruins the model: round 0 is selected and the model comes back unpruned."""
    ruin = scp_ray.TrainPlan(epochs=1, lr=0.0000001, weight_decay=0.0)
    result = scp_ray.prune_for_fairness(trained, loader(1), loader(2), pr_c=0.4, rounds=2, fine_tune=ruin)
    best = max(range(3), key=lambda index: -math.inf if math.isnan(result.fates[index]) else result.fates[index])
    assert result.selected == best
    if best == 0:
        image = torch.rand(4, 3, 12, 12)
        assert torch.equal(result.model.eval()(image), copy.deepcopy(trained).eval()(image))


def test_the_same_seed_gives_the_same_result_with_a_shuffling_loader(trained: nn.Module) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(1234)
        result = scp_ray.prune_for_fairness(trained, loader(1, shuffle=True), loader(2), pr_c=0.2, rounds=2, seed=5)
        runs.append(result)
    assert runs[0].fates == runs[1].fates
    assert torch.equal(runs[0].rounds[1].val.logits, runs[1].rounds[1].val.logits)


def test_an_enforced_stop_ends_it(trained: nn.Module) -> None:
    rule = StopRule(th_fair=1.0, enforce=True)
    result = scp_ray.prune_for_fairness(trained, loader(1), loader(2), pr_c=0.2, rounds=3, stop=rule)
    assert len(result.rounds) == 1
    assert result.rounds[0].stopped


def test_layers_are_listed_where_one_does_not_exist(trained: nn.Module) -> None:
    """Two prunable layers: the grouped convolution is none."""
    with pytest.raises(UnknownNameError, match=r"1 \(stem, 8 channels\), 2 \(last, 10 channels\)"):
        scp_ray.prune_for_fairness(trained, loader(1), loader(2), layer=3)


def test_what_cannot_be_done_is_refused(trained: nn.Module) -> None:
    with pytest.raises(ConfigError, match="would leave none of layer last's 10"):
        scp_ray.prune_for_fairness(trained, loader(1), loader(2), pr_c=0.5, rounds=2)
    with pytest.raises(DataError, match="val gives no batch"):
        scp_ray.prune_for_fairness(trained, loader(1), [])
    with pytest.raises(UnknownNameError, match="Did you mean 'snnl'"):
        scp_ray.prune_for_fairness(trained, loader(1), loader(2), criterion="snl")


def test_a_round_after_the_last_cannot_be_selected(trained: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"select: got 'round:9' with rounds: 2; allowed are 'round:0' to 'round:2'"):
        scp_ray.prune_for_fairness(trained, loader(1), loader(2), rounds=2, select="round:9")


def batches_of(make: Callable[[Tensor, Tensor, Tensor], Any]) -> list[Any]:
    return [make(*batch) for batch in loader(1)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda image, label, group: (image, label), r"gives 2 parts \(Tensor, Tensor\)"),
        (lambda image, label, group: (image, label, group, group), r"gives 4 parts"),
        (lambda image, label, group: {"image": image, "label": label}, "gives a mapping of image, label"),
        (lambda image, label, group: image, "gives a Tensor"),
        (lambda image, label, group: (image.numpy(), label, group), "gives a ndarray as image; .* torch.from_numpy"),
        (lambda image, label, group: (image, label, group.tolist()), r"gives 16 parts \(int, .*\) as group"),
        (lambda image, label, group: ((255 * image).byte(), label, group), "gives images of uint8, .* Divide by 255"),
        (lambda image, label, group: (image[:, 0], label, group), r"gives image \(16, 12, 12\), label \(16,\)"),
        (lambda image, label, group: (image, label[:, None], group), r"label \(16, 1\)"),
        (lambda image, label, group: (image, label, group[1:]), r"group \(15,\)"),
        (lambda image, label, group: (image, label, group * 0.7), "values of group that are no whole numbers"),
        (lambda image, label, group: (image, label / 0, group), "values of label that are no whole numbers"),
    ],
)
@pytest.mark.parametrize("of", ["train", "val"])
def test_batches_of_another_form_are_refused(trained: nn.Module, make: Callable[..., Any], words: str, of: str) -> None:
    given = {"train": loader(1), "val": loader(2)} | {of: batches_of(make)}
    with pytest.raises(DataError, match=f"^{of} .*{words}") as refused:
        scp_ray.prune_for_fairness(trained, **given)
    assert "wanted are batches of (image, label, group): tensors (N, C, H, W), (N,) and (N,)" in str(refused.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda image: image[:, :1], r"1 x 12 x 12, float32: .* greyscale as three channels"),
        (lambda image: image.double(), r"3 x 12 x 12, float64: .*the model takes\."),
    ],
)
def test_images_that_the_model_cannot_take_are_told(trained: nn.Module, make: Callable[..., Any], words: str) -> None:
    given = batches_of(lambda image, label, group: (make(image), label, group))
    with pytest.raises(BackboneError, match=rf"^Odd cannot take images of {words}") as refused:
        scp_ray.prune_for_fairness(trained, given, given)
    assert "image_size" not in str(refused.value), "there is no such argument"


def test_a_frozen_model_is_refused_unless_nothing_is_trained(trained: nn.Module) -> None:
    frozen = copy.deepcopy(trained).requires_grad_(False)
    with pytest.raises(ConfigError, match=r"no parameter of Odd requires a gradient.* model\.requires_grad_\(True\)"):
        scp_ray.prune_for_fairness(frozen, loader(1), loader(2))
    plan = scp_ray.TrainPlan(epochs=0)
    assert len(scp_ray.prune_for_fairness(frozen, loader(1), loader(2), rounds=1, fine_tune=plan).rounds) == 1


def test_whole_floats_are_codes_and_a_list_of_batches_is_a_loader(trained: nn.Module) -> None:
    given = batches_of(lambda image, label, group: [image, label.float(), group.bool()])
    plain = batches_of(lambda image, label, group: (image, label, group))
    one, other = (scp_ray.prune_for_fairness(trained, each, each, rounds=1) for each in (given, plain))
    assert one.fates == other.fates
