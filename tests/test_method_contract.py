"""Everything a base method may use of the contract, by one that uses all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from miniature import TRIAL
from torch import Tensor
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from scp_ray.config import ResolvedTrial, TrialConfig, resolve
from scp_ray.ledger import Ledger
from scp_ray.maths.masks import mask_parameter_
from scp_ray.maths.report import FairnessReport
from scp_ray.methods.base import Method, register
from scp_ray.methods.vanilla import Vanilla
from scp_ray.parts import Batch, Evaluation, FairnessData, Learner, Network, TrainPlan
from scp_ray.trial import Result, Step, train_base
from scp_ray.tune.record import record_base, record_trial
from scp_ray.tune.space import plan_jobs

CPU = torch.device("cpu")
HEARD: dict[str, list[Any]] = {"teacher": [], "finish": [], "calibrate": []}


class Pupil(Learner):
    """Two optimizers, a frozen teacher, and a choice made on validation that moves predictions."""

    unscheduled = frozenset({"head"})

    def __init__(self, network: Network, teacher: Learner) -> None:
        super().__init__(network.module, network.layers)
        self.head = torch.nn.Linear(4, 2)
        self.register_buffer("favoured", torch.tensor(-1))
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list: no part of the state

    def optimizers(self, plan: TrainPlan) -> dict[str, Optimizer]:
        return {
            "network": SGD(self.network.parameters(), lr=plan.lr, momentum=0.9),
            "head": Adam(self.head.parameters(), lr=1e-3),
        }

    def training_step_(
        self, batch: Batch, optimizers: Mapping[str, Optimizer], generator: torch.Generator
    ) -> dict[str, Tensor]:
        noise = torch.randn(len(batch.label), 1, 1, 1, generator=generator)
        logits = self(batch.image + 0.01 * noise)
        distance = functional.mse_loss(logits, self._teacher[0](batch.image))
        group_loss = functional.cross_entropy(self.head(logits.detach()), batch.group)
        loss = functional.cross_entropy(logits, batch.label) + 0.1 * distance
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        (loss + group_loss).backward()
        for optimizer in optimizers.values():
            optimizer.step()
        return {"loss": loss.detach(), "group_loss": group_loss.detach()}

    def predict(self, image: Tensor, group: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits, prediction = super().predict(image, group)
        return logits, prediction if self.favoured < 0 else torch.full_like(prediction, int(self.favoured))


@register("pupil-of-the-tests")
@dataclass(frozen=True)
class PupilMethod(Method):
    """Trained beside a vanilla teacher; after training one head weight is masked; predicts its commonest class."""

    @property
    def needs(self) -> tuple[Method, ...]:
        return (Vanilla(),)

    def build(self, backbone: Callable[..., Network], data: FairnessData, bases: Mapping[str, Learner]) -> Learner:
        HEARD["teacher"].append({key: value.clone() for key, value in bases["vanilla"].state_dict().items()})
        return Pupil(backbone(), bases["vanilla"])

    def sampler(self, label: Tensor, group: Tensor) -> Tensor | None:
        return None

    def finish_(self, learner: Learner, train_batches: Iterable[Batch]) -> None:
        HEARD["finish"].append(sum(len(batch.label) for batch in train_batches))
        keep = torch.ones(2, 4, dtype=torch.bool)
        keep[1, 3] = False
        mask_parameter_(learner.head, "weight", keep)

    def calibrate_(self, learner: Learner, val_outputs: Evaluation, reference: FairnessReport | None) -> bool:
        HEARD["calibrate"].append(reference)
        learner.favoured.fill_(int(val_outputs.logits.argmax(1).bincount().argmax()))
        return True


def pupil() -> ResolvedTrial:
    return resolve(TrialConfig.from_dict(TRIAL | {"method": "pupil-of-the-tests"}))


def run(trial: ResolvedTrial, ledger: Ledger) -> list[dict[str, Any]]:
    for base_id, config in trial.bases().items():
        if not ledger.base_done(base_id):
            record_base(config, ledger, device=CPU)
    list(record_trial(trial, ledger, device=CPU))
    return ledger.rounds(trial.trial_id)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for heard in HEARD.values():
        heard.clear()
    ledger = Ledger(tmp_path_factory.mktemp("pupil"))
    run(pupil(), ledger)
    return ledger.root


def test_what_it_needs_is_trained_first_and_handed_to_it(finished: Path) -> None:
    vanilla, own = pupil().bases()
    assert (vanilla, own) == (pupil().vanilla_id, pupil().base_id)
    stored = Ledger(finished).base_state(vanilla)
    assert len(HEARD["teacher"]) == 2, "for base training and for the trial"
    for teacher in HEARD["teacher"]:
        assert all(torch.equal(value, stored[key]) for key, value in teacher.items())


def test_finish_is_called_once_on_the_whole_training_set(finished: Path) -> None:
    assert HEARD["finish"] == [96]


def test_masks_and_choices_survive_in_the_weights(finished: Path) -> None:
    state = Ledger(finished).base_state(pupil().base_id)
    assert state["head.parametrizations.weight.0.keep"].sum() == 7
    assert state["favoured"] >= 0


def test_calibration_sees_the_vanilla_report_and_moves_predictions(finished: Path) -> None:
    """After base training and each of two rounds; afterwards one class is predicted for every image."""
    rows = Ledger(finished).rounds(pupil().trial_id)
    assert len(HEARD["calibrate"]) == 3
    vanilla = Ledger(finished).base_row(pupil().vanilla_id)
    assert [report.f1_mean for report in HEARD["calibrate"]] == [vanilla["val_f1"]] * 3
    predictions = pd.read_parquet(finished / "predictions" / f"{pupil().trial_id}.parquet")
    assert set(predictions.groupby(["round", "split"])["prediction"].nunique()) == {1}
    assert [row["val_eodd"] for row in rows] == [0, 0, 0], "a constant classifier has no gap"


def test_fate_has_two_baselines(finished: Path) -> None:
    """Against its own base (gap 0) it is undefined and says so; against vanilla it is F1/F1_v - 0."""
    row = Ledger(finished).rounds(pupil().trial_id)[1]
    vanilla = Ledger(finished).base_row(pupil().vanilla_id)
    assert row["val_fate_eodd_base"] != row["val_fate_eodd_base"]
    assert "eodd_base: the baseline's gap is 0" in row["fate_reason"]
    expected = row["val_f1"] / vanilla["val_f1"] - row["val_eodd"] / vanilla["val_eodd"]
    assert row["val_fate_eodd_vanilla"] == pytest.approx(expected)


def test_several_optimizers_and_generators_resume_bit_for_bit(finished: Path) -> None:
    """Interrupted after the first of two epochs: SGD's and Adam's states and the noise go on as they were."""
    config = list(pupil().bases().values())[1]
    teacher = {"vanilla": Ledger(finished).base_state(pupil().vanilla_id)}
    first = next(event for event in train_base(config, bases=teacher) if isinstance(event, Step))
    saved = first.snapshot()
    assert set(saved["optimizers"]) == {"network", "head"}
    resumed = next(event for event in train_base(config, bases=teacher, resume=saved) if isinstance(event, Result))
    stored = Ledger(finished).base_state(pupil().base_id)
    for key, value in resumed.learner.state_dict().items():
        assert torch.equal(value, stored[key]), key


def test_a_sweep_plans_each_base_once_in_order(tmp_path: Path) -> None:
    """Two arms of the method over one seed: vanilla, then the method's base that waits for it, then two trials."""
    from miniature import SPACE

    from scp_ray.config import SweepConfig

    space = SPACE | {"trial": TRIAL | {"method": "pupil-of-the-tests"}, "grid": {"pr_c": [0.1, 0.2]}}
    plan = plan_jobs(SweepConfig.from_dict(space).resolved_arms(), Ledger(tmp_path))
    vanilla, own = pupil().vanilla_id, pupil().base_id
    assert [(job.id, job.requires) for job in plan.to_do[:2]] == [(vanilla, ()), (own, (vanilla,))]
    assert [job.requires for job in plan.to_do[2:]] == [(vanilla, own)] * 2
