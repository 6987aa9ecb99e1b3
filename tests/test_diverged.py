"""Losses and answers that are no longer numbers: the job ends with the step and what to try, and is not retried."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from miniature import TRIAL
from torch import Tensor, nn

from scp_ray.config import TrialConfig, resolve
from scp_ray.errors import DivergedError
from scp_ray.loop.evaluate import evaluate
from scp_ray.loop.fit import fit_
from scp_ray.methods.adv_conf import AdvConf
from scp_ray.methods.adv_ref import AdvRef
from scp_ray.parts import Batch, Learner, Network, TrainPlan
from scp_ray.trial import run_trial, train_base

NAN, INF = float("nan"), float("inf")


def batch(count: int = 8) -> Batch:
    group = torch.arange(count) % 2
    return Batch(torch.rand(count, 3, 8, 8), group, group, group[:, None])


class Told(Learner):
    """Records what it is told to, step by step."""

    said: list[dict[str, float]]

    def training_step_(self, *_: Any) -> dict[str, Tensor]:
        return {name: torch.tensor(value) for name, value in self.said.pop(0).items()}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([{"loss": 1.0}, {"loss": NAN}, {"loss": INF}], "the loss became nan at step 2 of epoch 1"),
        ([{"loss": 1.0}, {"loss": -INF}], "the loss became -inf at step 2 of epoch 1"),
        (
            [{"loss": 1.0, "adversary_loss": 1.0}, {"loss": 1.0, "adversary_loss": INF}],
            "the loss (adversary_loss) became inf at step 2 of epoch 1",
        ),
        (
            [{"loss": 1.0, "hsic": 1.0, "mmd": NAN}, {"loss": NAN, "hsic": NAN, "mmd": NAN}],
            "the loss (mmd) became nan at step 1 of epoch 1",
        ),
        ([{"loss": NAN, "mmd": NAN}], "the loss became nan at step 1 of epoch 1"),
    ],
)
def test_whatever_a_step_records_has_to_be_finite(said: list[dict[str, float]], words: str) -> None:
    learner = Told(nn.Linear(1, 1), ())
    learner.said = list(said)
    with pytest.raises(DivergedError) as caught:
        fit_(learner, lambda seed, epoch: [batch() for _ in said], TrainPlan(epochs=1), seed=0)
    assert words in str(caught.value)
    assert "lower lr (train.lr of a base model, fine_tune.lr of a trial)" in str(caught.value)


def test_an_epoch_counts_from_one_and_ends_the_training() -> None:
    learner = Told(nn.Linear(1, 1), ())
    learner.said = [{"loss": 1.0}, {"loss": 1.0}, {"loss": 1.0}, {"loss": NAN}, {"loss": 1.0}, {"loss": 1.0}]
    with pytest.raises(DivergedError, match="step 2 of epoch 2"):
        fit_(learner, lambda seed, epoch: [batch(), batch()], TrainPlan(epochs=3), seed=0)
    assert len(learner.said) == 2, "the third epoch is not trained"


def network() -> Network:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    return Network(module, ())


@pytest.mark.parametrize("method", [AdvConf(), AdvConf(schedule="epoch"), AdvRef(projection=True), AdvRef()], ids=repr)
def test_a_head_that_breaks_ends_the_training_of_its_network(method: Any) -> None:
    """The adversary's weights are NaN; its own loss is the first to show it, where the network's is still a number."""
    from scp_ray.methods import adv_conf, adv_ref

    kind = {
        AdvConf: adv_conf.ConfusionLearner,
        AdvRef: adv_ref.ProjectionLearner if getattr(method, "projection", False) else adv_ref.ReversalLearner,
    }[type(method)]
    learner = kind(method, network(), 2)
    with torch.no_grad():
        learner.adversary.weight.fill_(NAN)
    with pytest.raises(DivergedError, match=r"became nan at step 1 of epoch 1"):
        fit_(learner, lambda seed, epoch: [batch()], TrainPlan(epochs=1), seed=0)


@pytest.mark.parametrize("value", [NAN, INF])
def test_answers_that_are_no_numbers_are_refused(value: float) -> None:
    """A last step that breaks the weights shows in no loss; the argmax of NaN would be class 0 for everybody."""
    learner = Learner(network().module, ())
    given = batch(6)
    given.image[2:4] = value
    with pytest.raises(DivergedError, match=r"answers to 2 of 6 images are not finite.*lower lr"):
        evaluate(learner, [given])


def trial(**changes: Any) -> Any:
    return resolve(TrialConfig.from_dict(TRIAL | changes)).config


def test_a_last_step_of_a_base_model_that_breaks_it_is_noticed() -> None:
    """One step in all (96 images, a batch of 96) at a rate of 1e38: the only loss is that of the untrained network."""
    config = trial(train={"epochs": 1, "batch_size": 96, "lr": 1e38, "augment": "none"})
    with pytest.raises(DivergedError, match="not finite"):
        list(train_base(config))


def test_a_diverging_fine_tuning_is_named() -> None:
    config = trial(fine_tune={"epochs": 2, "batch_size": 16, "lr": 1e30, "augment": "none"})
    with pytest.raises(DivergedError, match=r"step \d+ of epoch 1"):
        list(run_trial(config))
