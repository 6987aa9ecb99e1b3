"""A problem with a known answer for base methods, and what every method has to stand: to be stopped and to go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from miniature import TRIAL
from torch import Tensor

from scp_ray.activations import layer_output
from scp_ray.backbones.base import backbones
from scp_ray.config import TrialConfig
from scp_ray.loop.evaluate import evaluate
from scp_ray.loop.fit import Feed, fit_epochs
from scp_ray.maths.masks import load_masked_state_
from scp_ray.methods.base import Method
from scp_ray.modes import drawing_from
from scp_ray.parts import Batch, FairnessData, Learner, Network, Split, TrainPlan, state_to_cpu
from scp_ray.seeds import derive_seed
from scp_ray.trial import Result, run_trial

SIZE = 16


def planted_split(count: int, seed: int, groups: int = 2) -> Split:
    """Class 0, 1 or 2 is a bright stripe across, a bright stripe down or none; the group lights up a colour, 3 all."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 3
    group = torch.randint(groups, (count,), generator=draw)
    image = 40 + 20 * torch.rand(count, 3, SIZE, SIZE, generator=draw)
    image[label == 0, :, 6:10, :] += 120
    image[label == 1, :, :, 6:10] += 120
    for colour in range(3):
        image[(group == colour) | (group == 3), colour] += 40
    names = tuple(map(str, range(count)))
    return Split(image.round().to(torch.uint8), label, group[:, None], names, names)


def planted_data(groups: int = 2) -> FairnessData:
    splits = {name: planted_split(48, seed, groups) for seed, name in enumerate(("train", "val", "test"))}
    return FairnessData("planted", ("across", "down", "none"), ("colour",), 0, splits)


def as_batch(split: Split, rows: Tensor | slice = slice(None)) -> Batch:
    return Batch(split.image[rows] / 255, split.label[rows], split.attributes[rows, 0], split.attributes[rows])


def feed_of(data: FairnessData, batch_size: int = 16) -> Feed:
    def feed(seed: int, epoch: int) -> Iterator[Batch]:
        draw = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        for rows in torch.randperm(len(data.splits["train"]), generator=draw).split(batch_size):
            yield as_batch(data.splits["train"], rows)

    return feed


def fresh(method: Method, data: FairnessData, backbone: str = "tiny", seed: int = 0) -> Learner:
    """As a trial builds it."""

    def build(outputs: int = data.num_classes) -> Network:
        return backbones.get(backbone)().build(outputs, image_size=SIZE, seed=seed)

    with drawing_from(derive_seed(seed, "method")):
        return method.build(build, data, {})


def trained(method: Method, data: FairnessData, epochs: int = 20, lr: float = 0.02) -> Learner:
    learner = fresh(method, data)
    for _ in fit_epochs(learner, feed_of(data), TrainPlan(epochs=epochs, lr=lr), seed=1):
        pass
    return learner


def accuracy(learner: Learner, data: FairnessData) -> float:
    """On validation, which training has not seen; guessing gives 1/3."""
    outputs = evaluate(learner, [as_batch(data.splits["val"])])
    return float((outputs.prediction == outputs.label).double().mean())


def same_state(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert list(left) == list(right)
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    assert list(before) == list(after)
    return {key for key, value in before.items() if not torch.equal(value, after[key])}


def goes_on_bit_for_bit(method: Method, data: FairnessData) -> None:
    """Two epochs, and two epochs interrupted after the first, end in the same state and say the same."""
    plan = TrainPlan(epochs=2, lr=0.05, lr_step=1)
    whole, first, second = (fresh(method, data) for _ in range(3))
    for _ in fit_epochs(whole, feed_of(data), plan, seed=1):
        pass
    epoch = next(fit_epochs(first, feed_of(data), plan, seed=1))
    saved = state_to_cpu(first.state_dict())
    states = {name: state_to_cpu(optimizer.state_dict()) for name, optimizer in epoch.optimizers.items()}
    load_masked_state_(second, saved)
    for _ in fit_epochs(second, feed_of(data), plan, seed=1, start=1, optimizers=states):
        pass
    same_state(whole.state_dict(), second.state_dict())
    assert changed(saved, state_to_cpu(whole.state_dict())), "the second epoch did nothing"
    loaded = fresh(method, data, seed=9)
    val = [as_batch(data.splits["val"])]
    expected = evaluate(whole, val).logits
    assert not torch.equal(evaluate(loaded, val).logits, expected)
    load_masked_state_(loaded, state_to_cpu(whole.state_dict()))
    assert torch.equal(evaluate(loaded, val).logits, expected)


def whole_trial(method: str | dict[str, Any]) -> list[Result]:
    """Base training and two rounds of pruning, as a sweep does it: 6 of 64 channels a round."""
    results = [
        event for event in run_trial(TrialConfig.from_dict(TRIAL | {"method": method})) if isinstance(event, Result)
    ]
    assert [result.index for result in results] == [0, 1, 2]
    assert [int((~result.round.keep).sum()) for result in results if result.round] == [6, 12]
    assert all(result.val.logits.isfinite().all() for result in results)
    return results


def map_of(learner: Learner, name: str, batch: Batch) -> Tensor:
    """What a module gives in a whole forward pass, by a hook of our own."""
    caught: list[Tensor] = []
    handle = learner.network.get_submodule(name).register_forward_hook(lambda *call: caught.append(call[2].clone()))
    with torch.no_grad():
        learner(batch.image, batch.group)
    handle.remove()
    return caught[0]


def maps_are_the_batchs_own(learner: Learner, data: FairnessData) -> None:
    """``layer_output`` gives every image's map in its place: the same as asked one by one, in eval mode."""
    learner.eval()
    batch = as_batch(data.splits["val"], slice(0, 9))
    assert len(set(batch.group.tolist())) > 1
    for layer in (learner.layers[0], learner.layers[-1]):
        together = layer_output(learner, layer, batch)
        assert together.shape[:2] == (9, layer.channels)
        for row in range(9):
            alone = layer_output(learner, layer, as_batch(data.splits["val"], slice(row, row + 1)))
            torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(together, map_of(learner, layer.name, batch))
