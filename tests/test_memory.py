"""Memory that does not take a batch: trained in micro-batches, asked in halves, or refused by name."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from miniature import SPACE, TRIAL
from torch import Tensor, nn
from torch.nn import functional

from scp_ray.cli.main import main
from scp_ray.config import ResolvedTrial, TrialConfig, resolve
from scp_ray.errors import BatchTooLargeError, LedgerError, ResourceError
from scp_ray.ledger import Ledger, load_sweep
from scp_ray.loop.evaluate import evaluate
from scp_ray.loop.fit import fit_
from scp_ray.methods.base import Method, all_needs, methods, register
from scp_ray.parts import Batch, FairnessData, Learner, Network, TrainPlan
from scp_ray.trial import BaseModel, Result, Step, run_trial, train_base
from scp_ray.tune.driver import _what_happened
from scp_ray.tune.record import _give_memory_back, record_base, record_trial

CPU = torch.device("cpu")


def batch(count: int = 7, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(count, 3, 6, 6, generator=generator, dtype=dtype)
    label = torch.randint(3, (count,), generator=generator)
    group = torch.arange(count) % 2
    return Batch(image, label, group, group[:, None])


def plain(dtype: torch.dtype = torch.float64) -> Learner:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 3))
    return Learner(network.to(dtype), ())


class Short(Learner):
    """A plain learner on a device whose memory takes so many images at once."""

    trains, asks = 10**9, 10**9

    def forward(self, image: Tensor, group: Tensor | None = None) -> Tensor:
        if len(image) > (self.trains if self.training else self.asks):
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(image)} GiB.\nmore")
        return super().forward(image, group)


# ---- the step ----


@pytest.mark.parametrize("micro_batches", [2, 3, 7, 20])
@pytest.mark.parametrize("loss", ["native", "ce"])
def test_a_step_in_micro_batches_is_the_step_of_the_whole_batch(micro_batches: int, loss: str) -> None:
    """By hand: the gradient of the whole batch's mean cross-entropy, and one step of plain SGD along it.

    7 images in 2 or 3 are cut unevenly, so that equal weights would be wrong.
    """
    learner, given = plain(), batch()
    learner.micro_batches = micro_batches
    parameters = [parameter.detach().clone().requires_grad_() for parameter in learner.parameters()]
    weight, bias, head, offset = parameters
    maps = functional.relu(functional.conv2d(given.image, weight, bias)).flatten(1)
    logits = maps @ head.T + offset
    whole = -(logits.log_softmax(1)[torch.arange(7), given.label]).sum() / 7
    gradients = torch.autograd.grad(whole, parameters)
    expected = [parameter - 0.5 * gradient for parameter, gradient in zip(parameters, gradients, strict=True)]
    plan = TrainPlan(epochs=1, batch_size=7, lr=0.5, momentum=0, nesterov=False, weight_decay=0, loss=loss)  # type: ignore[arg-type]
    means = fit_(learner, lambda seed, epoch: [given], plan, seed=0)
    assert means["loss"] == pytest.approx(whole.item(), rel=1e-12)
    for came, wanted in zip(learner.parameters(), expected, strict=True):
        torch.testing.assert_close(came, wanted, rtol=1e-12, atol=1e-14)


def test_no_more_than_a_micro_batch_is_in_memory_at_once() -> None:
    """Forward and backward of one part are over before the next begins: seen by the sizes and their order."""
    seen: list[str] = []
    learner, given = plain(), batch()
    learner.network[0].register_forward_hook(lambda *_: seen.append(f"forward {len(_[1][0])}"))
    learner.network[3].weight.register_post_accumulate_grad_hook(lambda _: seen.append("backward"))
    learner.micro_batches = 2
    learner.training_step_(given, learner.optimizers(TrainPlan()), torch.Generator())
    assert seen == ["forward 4", "backward", "forward 3", "backward"]


SIDE = 96  # multi-exit needs maps of 3 x 3
LOOKS_AT_THE_WHOLE_BATCH = {"hsic", "mfd", "fair-adabn", "adv-conf", "adv-ref"}


def built(name: str) -> Learner:
    dataset = TRIAL["dataset"] | {"image_size": SIDE}
    config = TrialConfig.from_dict(TRIAL | {"method": name, "dataset": dataset})
    data = config.dataset.load()
    bases: dict[str, Learner] = {}

    def backbone(outputs: int = data.num_classes) -> Network:
        return config.backbone.build(outputs, image_size=SIDE, seed=0)

    for needed in all_needs(config.method):
        bases[needed.plugin_name] = needed.build(backbone, data, bases).double()
    return config.method.build(backbone, data, bases).double()


@pytest.mark.parametrize("name", [name for name in methods.names() if "-of-the-tests" not in name])
def test_each_method_is_cut_or_refused_and_what_is_cut_is_a_mean_over_samples(name: str) -> None:
    """A mean over samples: the loss of 8 equals the shares of its parts of 5 and 3, in eval mode (no batch norm)."""
    learner = built(name).eval()
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(8, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    label, group = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0]), torch.tensor([0, 0, 0, 1, 1, 1, 0, 1])
    whole = Batch(image, label, group, group[:, None])
    parts = [Batch(*(column[rows] for column in whole)) for rows in (slice(0, 5), slice(5, 8))]
    shares = [learner.loss(part).item() * len(part.label) / 8 for part in parts]
    is_mean = abs(sum(shares) - learner.loss(whole).item()) < 1e-9
    assert learner.cuts_batches == (name not in LOOKS_AT_THE_WHOLE_BATCH)
    if learner.cuts_batches:
        assert is_mean


def test_a_loss_or_step_of_ones_own_is_not_cut_unless_it_says_so() -> None:
    class OwnLoss(Learner):
        def loss(self, batch: Batch) -> Tensor:
            return super().loss(batch)

    class OwnStep(Learner):
        def training_step_(self, *given: Any) -> dict[str, Tensor]:
            return super().training_step_(*given)

    network = nn.Linear(1, 1)
    assert Learner(network, ()).cuts_batches and Short(network, ()).cuts_batches
    assert not OwnLoss(network, ()).cuts_batches and not OwnStep(network, ()).cuts_batches


def test_a_batch_that_does_not_fit_is_named_with_what_to_do() -> None:
    learner = Short(plain(torch.float32).network, ())
    learner.trains = 4
    feed = lambda seed, epoch: [batch(4, dtype=torch.float32), batch(7, dtype=torch.float32)]  # noqa: E731
    plan = TrainPlan(epochs=3, batch_size=7)
    with pytest.raises(BatchTooLargeError) as caught:
        fit_(learner, feed, plan, seed=0)
    assert caught.value.can_be_cut and caught.value.exit_code == 3
    said = str(caught.value)
    assert "a training batch of 7 images does not fit into the memory of cpu, at step 2 of epoch 1" in said
    assert "train.batch_size" in said and "fine_tune.batch_size" in said
    assert said.endswith("Tried to allocate 7 GiB.")
    learner.trains, learner.micro_batches = 3, 2
    with pytest.raises(BatchTooLargeError, match="batch of 7 images, 4 at a time, does not fit") as caught:
        fit_(learner, feed, plan, seed=0)
    assert not caught.value.can_be_cut


# ---- a trial ----


@register("short-of-the-tests")
@dataclass(frozen=True)
class ShortMethod(Method):
    """Vanilla on a device that takes so many images at once."""

    trains: int = 10**9
    asks: int = 10**9

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        learner = Short(*backbone())
        learner.trains, learner.asks = self.trains, self.asks
        return learner


@register("stubborn-of-the-tests")
@dataclass(frozen=True)
class StubbornMethod(ShortMethod):
    """The same with a loss that says nothing of whether it may be cut."""

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        class OwnLoss(Short):
            def loss(self, batch: Batch) -> Tensor:
                return super().loss(batch)

        learner = OwnLoss(*backbone())
        learner.trains = self.trains
        return learner


@register("killed-of-the-tests")
@dataclass(frozen=True)
class KilledMethod(ShortMethod):
    """What the kernel does to a process that takes too much of the machine's memory."""

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        class Killed(Short):
            def loss(self, batch: Batch) -> Tensor:
                os.kill(os.getpid(), signal.SIGKILL)
                return super().loss(batch)

        return Killed(*backbone())


def short(method: str = "short-of-the-tests", trial: Mapping[str, Any] = TRIAL, **options: Any) -> ResolvedTrial:
    return resolve(TrialConfig.from_dict({**trial, "method": {"name": method, **options}}))


def record(wanted: ResolvedTrial, root: Path) -> tuple[Ledger, list[dict[str, Any]]]:
    ledger = Ledger(root)
    for base_id, config in wanted.bases().items():
        if not ledger.base_done(base_id):
            record_base(config, ledger, device=CPU, checkpoint_s=0)
    return ledger, list(record_trial(wanted, ledger, device=CPU, checkpoint_s=0))


def test_a_trial_goes_on_in_micro_batches_and_its_rows_say_so(tmp_path: Path) -> None:
    """Train batches of 8 fit, fine-tuning batches of 16 do not, half of one does.

    Each row comes once, and the numbers are those of a trial that was cut from the start.
    """
    wanted = short(trains=8)
    ledger, rows = record(wanted, tmp_path)
    assert [row["round"] for row in rows] == [0, 1, 2]
    stored = pd.read_parquet(ledger.table_path("rounds", wanted.trial_id))
    assert stored["micro_batch"].isna().tolist() == [True, False, False]
    assert stored["micro_batch"].tolist()[1:] == [8, 8]
    assert stored["eval_batch"].isna().all()
    base = BaseModel(ledger.base_state(wanted.base_id), ledger.base_report(wanted.base_id, 4))
    again = [event for event in run_trial(wanted.config, base, micro_batches=2) if isinstance(event, Result)]
    assert [event.val.report.f1_mean for event in again] == [row["val_f1"] for row in rows[1:]]


def test_a_base_model_too(tmp_path: Path) -> None:
    wanted = short(trains=4)  # of 8, then of 16: a half of that does not fit
    ledger = Ledger(tmp_path)
    for config in wanted.bases().values():
        row = record_base(config, ledger, device=CPU)
    assert row["micro_batch"] == 4
    with pytest.raises(BatchTooLargeError, match="16 images, 8 at a time"):
        list(record_trial(wanted, ledger, device=CPU))


def test_the_second_try_goes_on_from_the_saved_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory gets short in the second epoch of the first round: the first is not trained again."""
    wanted, ledger = short(), Ledger(tmp_path)
    for config in wanted.bases().values():
        record_base(config, ledger, device=CPU)
    seen: list[int] = []

    def train(self: Short, image: Tensor, group: Tensor | None = None) -> Tensor:
        if self.training:
            if len(seen) >= 8 and len(image) > 8:  # 96 images are 6 batches of 16
                raise torch.OutOfMemoryError("CUDA out of memory.")
            seen.append(len(image))
        return Learner.forward(self, image, group)

    monkeypatch.setattr(Short, "forward", train)
    rows = list(record_trial(wanted, ledger, device=CPU, checkpoint_s=0))
    assert [row["micro_batch"] for row in rows] == [None, 8, 8]
    assert seen == 8 * [16] + 12 * [8] + 24 * [8], "one epoch whole, two steps lost, then the second epoch in halves"


def test_a_cut_trial_that_is_interrupted_goes_on_cut() -> None:
    """Bit for bit: stopped after the first epoch and resumed, without being told again that memory is short."""
    config = short().config
    whole = [event for event in train_base(config, micro_batches=2)][-1]
    steps = train_base(config, micro_batches=2)
    first = next(steps)
    assert isinstance(first, Step)
    resumed = [event for event in train_base(config, resume=first.snapshot())][-1]
    assert torch.equal(resumed.val.logits, whole.val.logits)
    assert resumed.micro_batch == whole.micro_batch == 4
    uncut = [event for event in train_base(config)][-1]
    assert uncut.micro_batch is None
    assert not torch.equal(uncut.val.logits, whole.val.logits), "tiny has batch norm: cut or not is not the same"


@pytest.mark.parametrize("trains", [4, 8], ids=["its base model", "its fine-tuning"])
def test_a_method_whose_loss_cannot_be_cut_fails_at_once_by_name(tmp_path: Path, trains: int) -> None:
    wanted = short("stubborn-of-the-tests", trains=trains)
    with pytest.raises(BatchTooLargeError, match=r"looks at a batch as a whole.*smaller batch_size") as caught:
        record(wanted, tmp_path)
    assert not caught.value.can_be_cut
    assert "at a time" not in str(caught.value), "no second try"


def test_plain_cross_entropy_is_a_mean_over_samples_whatever_the_methods_own_loss_is(tmp_path: Path) -> None:
    fine_tune = TRIAL | {"fine_tune": TRIAL["fine_tune"] | {"loss": "ce"}}
    _, rows = record(short("stubborn-of-the-tests", fine_tune, trains=8), tmp_path)
    assert [row["micro_batch"] for row in rows] == [None, 8, 8]


# ---- evaluation ----


@pytest.mark.parametrize(
    ("asks", "at_once", "sizes"), [(100, None, [7, 7, 2]), (4, 4, [4, 3, 4, 3, 2]), (1, 1, 16 * [1])]
)
def test_answers_do_not_depend_on_how_many_are_asked_at_once(asks: int, at_once: int | None, sizes: list[int]) -> None:
    network, given = plain().network, [batch(7, seed=1), batch(7, seed=2), batch(2, seed=3)]
    learner = Short(network, ())
    learner.asks = asks
    asked: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    came = evaluate(learner, given)
    assert (came.at_once, asked) == (at_once, sizes)
    with torch.no_grad():
        logits = network(torch.cat([part.image for part in given])).float()
    torch.testing.assert_close(came.logits, logits, rtol=1e-6, atol=1e-7)
    assert torch.equal(came.label, torch.cat([part.label for part in given]))
    assert torch.equal(came.prediction, logits.argmax(1))


def test_an_image_that_does_not_fit_alone_is_not_asked_for_ever() -> None:
    learner = Short(plain().network, ())
    learner.asks = 0
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(learner, [batch()])


def test_evaluation_in_halves_is_recorded(tmp_path: Path) -> None:
    _, rows = record(short(trial=TRIAL | {"criterion": "magnitude"}, asks=10), tmp_path)
    assert [row["eval_batch"] for row in rows] == [8, 8, 8], "64 images: 32, 16, 8"
    assert [row["micro_batch"] for row in rows] == [None, None, None]


# ---- scoring ----


def test_a_scoring_batch_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is part of what the criterion measures: refused, naming the setting."""
    from scp_ray.criteria import snnl

    def short_of_memory(*_: Any, **__: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")

    monkeypatch.setattr(snnl, "snnl_scores", short_of_memory)
    with pytest.raises(ResourceError, match=r"scoring batch of 128 images.*smaller criterion\.batch_size.*3\.00 GiB"):
        record(short(), tmp_path)


# ---- a sweep ----


@pytest.mark.ray
def test_a_sweep_says_what_it_cut_what_it_could_not_and_what_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real Ray: batches of 16 do not fit, a half does; a loss that cannot be cut fails; a worker that is killed
    whenever it trains is given up. None stops the others.
    """
    folder = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{folder.parent}")  # where workers find the methods above
    tried = [{"name": f"{name}-of-the-tests", "trains": 8} for name in ("short", "stubborn", "killed")]
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE | {"grid": {"method": tried}}))
    code = main(["sweep", str(space), "--out", str(tmp_path), "--json"])
    told = capsys.readouterr()
    assert code == 1
    assert "memory did not take a training batch of 16, so it was trained 8 images at a time" in told.err
    assert "column micro_batch" in told.err
    failed = sorted(json.loads(told.out)["failed"].values())
    assert len(failed) == 3
    assert "looks at a batch as a whole" in failed[0]
    assert re.match(r"its base model \w+ failed \(base killed-of-the-tests, seed=0\)", failed[1])
    assert failed[2].startswith("its worker died (the machine's memory is the usual cause")
    assert failed[2].endswith("4 times without getting further.")
    rounds = load_sweep(tmp_path / "miniature").rounds
    assert rounds.loc[rounds["method"] == "short-of-the-tests", "micro_batch"].tolist()[1:] == [8, 8]
    assert rounds.loc[rounds["method"] == "stubborn-of-the-tests", "round"].tolist() == [0]


def test_a_worker_that_cannot_start_is_not_taken_for_one_that_was_killed() -> None:
    class Lost(Exception):
        cause: BaseException | None = None

    no_module = "The actor died because of an error raised in its creation task\n\n  File x\nNo module named 'mine'\n"
    assert _what_happened(Lost(no_module)) == "could not start (No module named 'mine')"
    assert "memory is the usual cause" in _what_happened(
        Lost("The actor died unexpectedly before finishing this task.")
    )
    refused = Lost("x")
    refused.cause = LedgerError("cannot write a: No space left on device.")
    assert _what_happened(refused) == "met LedgerError: cannot write a: No space left on device."


def test_what_the_first_try_left_is_gone_before_its_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model and its optimizer hold each other: no cache is free that they still lie in."""
    model = plain()
    model.holds_itself = model  # type: ignore[assignment]
    left, seen = weakref.ref(model), list[object]()
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(left()))
    gc.disable()
    try:
        del model
        _give_memory_back(torch.device("cuda"))
    finally:
        gc.enable()
    assert seen == [None]
