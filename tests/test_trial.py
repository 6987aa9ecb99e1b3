"""One trial without Ray: repeatable, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from miniature import same_ledgers
from recording import record_all, trial
from torch import nn

from scp_ray.ledger import Ledger
from scp_ray.loop.fit import fit_, fit_epochs
from scp_ray.parts import Learner, TrainPlan
from scp_ray.trial import Result, run_trial, train_base
from scp_ray.tune import record


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_all(trial(), tmp_path_factory.mktemp("undisturbed")).root


def test_the_same_seed_gives_the_same_ledger(undisturbed: Path, tmp_path: Path) -> None:
    record_all(trial(), tmp_path)
    same_ledgers(undisturbed, tmp_path)


def test_another_seed_gives_other_predictions(undisturbed: Path, tmp_path: Path) -> None:
    other = record_all(trial(seed=1), tmp_path)
    logits = [pd.read_parquet(next((root / "predictions").iterdir()))["logits"][0] for root in (undisturbed, tmp_path)]
    assert not (logits[0] == logits[1]).all()
    assert other.rounds(trial(seed=1).trial_id)[1]["seed"] == 1


def test_what_a_trial_leaves_behind(undisturbed: Path) -> None:
    """pr_c 0.1 of the last layer's 64 channels: 6 a round (6.4 rounded), so 6, then 12 are gone."""
    wanted, ledger = trial(), Ledger(undisturbed)
    rows = ledger.rounds(wanted.trial_id)
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert [row["from_base"] for row in rows] == [True, False, False]
    assert [row["channels_left"] for row in rows] == [64, 58, 52]
    assert rows[0]["val_fate_eodd_base"] == 0
    assert not set(rows[1]["channels_pruned"]) & set(rows[2]["channels_pruned"])
    channels = pd.read_parquet(ledger.table_path("channels", wanted.trial_id))
    assert channels.groupby("round")["pruned"].sum().to_dict() == {1: 6, 2: 6}
    assert channels.groupby("round")["kept"].sum().to_dict() == {1: 58, 2: 52}
    first = channels[channels["round"] == 1].sort_values("score", kind="stable")
    assert sorted(first["channel"].head(6)) == rows[1]["channels_pruned"]
    predictions = pd.read_parquet(ledger.table_path("predictions", wanted.trial_id))
    assert predictions.groupby(["round", "split"]).size().to_dict() == {
        (index, split): 64 for index in (1, 2) for split in ("val", "test")
    }
    assert not [column for column in rows[1] if column.startswith("test_")], "test numbers are made by reports only"


def test_validation_numbers_follow_from_the_stored_predictions(undisturbed: Path) -> None:
    """scikit-learn on the stored predictions gives the row's F1."""
    from sklearn.metrics import f1_score

    wanted, ledger = trial(), Ledger(undisturbed)
    predictions = pd.read_parquet(ledger.table_path("predictions", wanted.trial_id))
    val = predictions[(predictions["round"] == 2) & (predictions["split"] == "val")]
    by_group = [
        f1_score(rows["label"], rows["prediction"], average="macro", zero_division=0) for _, rows in val.groupby("tone")
    ]
    assert ledger.rounds(wanted.trial_id)[2]["val_f1"] == pytest.approx(sum(by_group) / 2)


def test_first_scores_are_made_once_for_all_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arms that differ in pr_c share the base's scores; the second one scores in round 2 alone."""
    ledger = record_all(trial(), tmp_path)
    other, scored, original = trial(pr_c=0.2), [], record.layer_scores
    monkeypatch.setattr(record, "layer_scores", lambda *a, **k: scored.append(1) or original(*a, **k))
    record_all(other, tmp_path)
    assert len(scored) == 1
    assert len(list(ledger.base_folder(other.base_id).glob("scores/*.parquet"))) == 1
    scores = [pd.read_parquet(ledger.table_path("channels", each.trial_id)) for each in (trial(), other)]
    firsts = [frame[frame["round"] == 1]["score"].tolist() for frame in scores]
    assert firsts[0] == firsts[1]


def test_the_control_without_pruning_trains_the_same_epochs(tmp_path: Path) -> None:
    control = trial(criterion="none", pr_c=None)
    rows = record_all(control, tmp_path).rounds(control.trial_id)
    assert [row["channels_left"] for row in rows] == [64, 64, 64]
    assert rows[2]["channels_pruned"] == []
    assert rows[2]["train_loss"] != rows[1]["train_loss"], "it goes on training"


def test_an_enforced_stop_ends_the_loop(tmp_path: Path) -> None:
    """th_fair 1 asks for an improvement of the gap by 1 a round, which no gap in [0, 1] can give."""
    stopping = trial(stop={"th_fair": 1.0, "enforce": True})
    rows = record_all(stopping, tmp_path).rounds(stopping.trial_id)
    assert [row["stopped"] for row in rows] == [False, True]
    assert rows[1]["stop_reason"].startswith(("fairness", "accuracy"))


def test_a_recorded_stop_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    recorded = trial(stop={"th_fair": 1.0})
    rows = record_all(recorded, tmp_path).rounds(recorded.trial_id)
    assert [bool(row["stop_reason"]) for row in rows] == [False, True, True]
    assert recorded.trial_id == trial().trial_id
    assert [row["val_f1"] for row in rows] == [row["val_f1"] for row in Ledger(undisturbed).rounds(trial().trial_id)]


def test_the_model_kept_is_that_of_the_selected_round(undisturbed: Path) -> None:
    """The stored weights give the stored predictions of the round that they are said to be of."""
    from scp_ray.assembly import build_learner
    from scp_ray.data.batches import eval_batches
    from scp_ray.ledger.files import read_json
    from scp_ray.ledger.weights import read_weights
    from scp_ray.loop.evaluate import evaluate
    from scp_ray.maths.masks import load_masked_state_

    wanted, ledger = trial(select="round:1"), Ledger(undisturbed)
    data = wanted.config.dataset.load()
    root = undisturbed.parent / "round-1"
    record_all(wanted, root)
    assert read_json(root / "models" / wanted.trial_id / "model.json")["round"] == 1
    learner = build_learner(wanted.config, data, {})
    load_masked_state_(learner, read_weights(root / "models" / wanted.trial_id / "model.safetensors"))
    outputs = evaluate(learner, eval_batches(data.splits["val"]))
    predictions = pd.read_parquet(ledger.table_path("predictions", wanted.trial_id))
    stored = predictions[(predictions["round"] == 1) & (predictions["split"] == "val")]["prediction"]
    assert outputs.prediction.tolist() == stored.tolist()


def test_run_trial_alone_trains_its_base() -> None:
    """The library form: no ledger, no base given."""
    results = [event for event in run_trial(trial().config) if isinstance(event, Result)]
    assert [result.index for result in results] == [0, 1, 2]
    assert results[2].round is not None and results[2].round.last


def test_a_diverging_loss_is_named_with_its_step() -> None:
    from scp_ray.errors import DivergedError

    config = trial(train={"epochs": 1, "batch_size": 32, "lr": 1e30}).config
    with pytest.raises(DivergedError, match=r"step \d+ of epoch 1"):
        list(train_base(config))


def test_dropout_and_generators_are_left_as_they_were() -> None:
    """Training draws from streams of its own: the default generator is where it was."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 6 * 6, 2))
    learner = Learner(network, ())
    from scp_ray.parts import Batch

    batch = Batch(torch.rand(8, 3, 8, 8), torch.arange(8) % 2, torch.arange(8) % 2, (torch.arange(8) % 2)[:, None])
    before = torch.get_rng_state()
    fit_(learner, lambda seed, epoch: [batch], TrainPlan(epochs=2, batch_size=8), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


class Listener(Learner):
    """Writes down what its generator and the default one draw at each step."""

    def training_step_(self, batch: Any, optimizers: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
        self.drawn.append((torch.rand(1, generator=generator).item(), torch.rand(1).item()))
        return {"loss": torch.zeros(())}


def test_each_epoch_draws_from_its_own_stream() -> None:
    """Three epochs draw differently; one that starts after the first draws what the last two drew."""

    def drawn(start: int) -> list[tuple[float, float]]:
        learner = Listener(nn.Linear(1, 1), ())
        learner.drawn = []
        plan = TrainPlan(epochs=3)
        for _ in fit_epochs(learner, lambda seed, epoch: [None], plan, seed=1, start=start):  # type: ignore[list-item]
            pass
        return learner.drawn

    whole = drawn(0)
    assert len(set(whole)) == 3
    assert drawn(1) == whole[1:]


def test_a_mask_outlives_the_loop(undisturbed: Path) -> None:
    """What is pruned in round 1 is still exactly zero after the training of round 2."""
    final = [event for event in run_trial(trial().config) if isinstance(event, Result)][-1]
    conv = final.learner.network.get_submodule("21")
    norm = final.learner.network.get_submodule("22")
    rows = Ledger(undisturbed).rounds(trial().trial_id)
    gone = torch.tensor([channel for row in rows for channel in row["channels_pruned"]])
    assert len(gone) == 12
    x = torch.randn(2, 64, 6, 6)
    final.learner.eval()
    assert norm(conv(x))[:, gone].abs().max() == 0
