"""Evidence in the ledger: made when a round ends, of validation alone, filled in where an older sweep has none."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from miniature import same_rows
from planted_sweep import eodd_by_hand
from recording import record_all, trial

from scp_ray.cli.main import main
from scp_ray.errors import LedgerError
from scp_ray.ledger import Ledger, load_sweep
from scp_ray.ledger import ledger as ledger_module
from scp_ray.ledger.evidence import SCHEMA, evidence_of, evidence_table, fill_evidence
from scp_ray.ledger.files import write_json
from scp_ray.ledger.lease import Lease, holds
from scp_ray.maths.uncertainty import evidence
from scp_ray.seeds import derive_seed
from scp_ray.trial import BaseModel, Result, run_trial, train_base

METRICS = ["f1", "eopp0", "eopp1", "eodd", "eodd_sum_abs"]


def record(root: Path) -> Ledger:
    wanted = trial()
    ledger = record_all(wanted, root)
    arm = {"label": "all", "settings": {}, "config": wanted.config.as_dict(), "trials": []}
    arm["trials"] = [
        {"seed": 0, "trial_id": wanted.trial_id, "base_id": wanted.base_id, "vanilla_id": wanted.vanilla_id}
    ]
    write_json(ledger.definition_path, {"format": 1, "name": "made", "arms": [arm], "data": {}, "test_reveals": 0})
    return ledger


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("finished")).root


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def path_of(root: Path) -> Path:
    return root / "evidence" / f"{trial().trial_id}.parquet"


def base_path_of(root: Path) -> Path:
    return root / "bases" / trial().base_id / "evidence.parquet"


def forget(root: Path) -> None:
    """What an older version would have left."""
    shutil.rmtree(root / "evidence")
    base_path_of(root).unlink()


def test_each_round_leaves_a_row_per_metric_of_validation(finished: Path) -> None:
    table = pq.read_table(path_of(finished))
    assert table.schema.equals(SCHEMA)
    rows = table.to_pandas()
    assert rows[["round", "split", "metric"]].values.tolist() == [
        [index, "val", metric] for index in (1, 2) for metric in METRICS
    ]
    assert set(rows["n"]) == {64}
    base = pq.read_table(base_path_of(finished)).to_pandas()
    assert base[["round", "split", "metric"]].values.tolist() == [[0, "val", metric] for metric in METRICS]
    committed = pd.read_parquet(finished / "rounds" / path_of(finished).name).set_index("round")
    for row in [*rows.to_dict("records"), *base.to_dict("records")]:
        assert row["observed"] == pytest.approx(committed.loc[row["round"], f"val_{row['metric']}"], abs=1e-12)


def test_it_is_what_the_maths_say_of_the_stored_predictions(finished: Path) -> None:
    stored = pd.read_parquet(path_of(finished))
    said = pd.read_parquet(finished / "predictions" / path_of(finished).name)
    drawn = derive_seed(0, "evidence", "val")
    for index in (1, 2):
        val = said[(said["round"] == index) & (said["split"] == "val")]
        arrays = (val[name].to_numpy() for name in ("label", "prediction", "tone"))
        unit = np.unique(val["unit"], return_inverse=True)[1]
        classes = len(trial().config.dataset.class_names)
        expected = pd.DataFrame([asdict(row) for row in evidence(*arrays, num_classes=classes, unit=unit, seed=drawn)])
        found = stored[stored["round"] == index].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[list(expected.columns)], expected, check_dtype=False, rtol=1e-12)


def test_the_floor_is_that_of_groups_permuted_inside_each_class(finished: Path) -> None:
    """Every image is a unit of its own here: 400 permutations in plain numpy, and the published reading by hand."""
    random = np.random.default_rng(1)
    said = pd.read_parquet(finished / "predictions" / path_of(finished).name)
    val = said[(said["round"] == 2) & (said["split"] == "val")]
    assert val["unit"].nunique() == len(val)
    label, prediction, group = (val[name].to_numpy() for name in ("label", "prediction", "tone"))
    classes, null = len(trial().config.dataset.class_names), []
    for _ in range(400):
        permuted = group.copy()
        for c in range(classes):
            permuted[label == c] = random.permutation(group[label == c])
        null.append(eodd_by_hand(label, prediction, permuted, classes))
    stored = pd.read_parquet(path_of(finished))
    (row,) = stored[(stored["round"] == 2) & (stored["metric"] == "eodd")].to_dict("records")
    error = np.std(null) * np.sqrt(1 / 400 + 1 / row["permutations"])
    assert row["floor_mean"] == pytest.approx(np.mean(null), abs=4 * error)
    assert row["excess"] == pytest.approx(eodd_by_hand(label, prediction, group, classes) - row["floor_mean"], abs=1e-9)


def test_tables_are_written_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row comes last: it is the commit mark."""
    written: list[str] = []
    for name in ("write_table", "write_weights", "replace_rounds"):
        original = getattr(ledger_module, name)

        def note(path: Path, *more: Any, original: Any = original) -> None:
            written.append(path.stem if "bases" in path.parts else path.parent.name)
            original(path, *more)

        monkeypatch.setattr(ledger_module, name, note)
    record(tmp_path)
    assert written[:4] == ["predictions", "evidence", "model", "rounds"]
    assert written[-4:] == ["predictions", "evidence", "channels", "rounds"]


def results() -> tuple[Result, list[Result]]:
    config = trial().config
    base = next(event for event in train_base(config) if isinstance(event, Result))
    model = BaseModel(base.learner.state_dict(), base.val.report)
    return base, [event for event in run_trial(config, model) if isinstance(event, Result)]


def test_a_round_that_is_replaced_replaces_its_evidence(copy: Path) -> None:
    """Round 1 again, with every answer of class 0: its evidence is new, round 2's is gone with round 2."""
    ledger, wanted = Ledger(copy), trial()
    _, (first, _) = results()
    said = replace(first.val, prediction=torch.zeros_like(first.val.prediction))
    row = ledger.rounds(wanted.trial_id)[1] | said.report.as_row("val_")
    ledger.commit_round(wanted.trial_id, row, replace(first, val=said), wanted.config.dataset.load())
    rows = pd.read_parquet(path_of(copy))
    assert set(rows["round"]) == {1}
    # in both groups every image is called class 0: TPR and FPR are 1 there and 0 elsewhere
    assert rows.set_index("metric")["observed"][["eopp0", "eodd"]].tolist() == [0, 0]
    assert set(load_sweep(copy).evidence["round"]) == {0, 1}


def test_a_frame_holds_round_0_from_the_base_and_what_is_committed(copy: Path) -> None:
    frame = load_sweep(copy).evidence
    assert frame[["trial_id", "round", "metric"]].values.tolist() == [
        [trial().trial_id, index, metric] for index in (0, 1, 2) for metric in METRICS
    ]
    rounds = copy / "rounds" / path_of(copy).name
    rows = pq.read_table(rounds)
    pq.write_table(rows.slice(0, 2), rounds)  # killed before the row of round 2
    assert set(load_sweep(copy).evidence["round"]) == {0, 1}


def test_a_report_fills_in_what_an_older_sweep_lacks(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(copy)
    assert len(load_sweep(copy).evidence) == 0
    assert main(["report", str(copy)]) == 0
    told = capsys.readouterr()
    assert "3 rounds have no evidence yet" in told.err
    for path in (path_of, base_path_of):
        same_rows(pd.read_parquet(path(finished)), pd.read_parquet(path(copy)))
        assert pq.read_table(path(copy)).schema.equals(SCHEMA)
    before = path_of(copy).read_bytes()
    assert main(["report", str(copy)]) == 0
    assert "no evidence" not in capsys.readouterr().err
    assert path_of(copy).read_bytes() == before


def test_a_report_fills_in_beside_a_driver_that_has_the_sweep(finished: Path, copy: Path) -> None:
    forget(copy)
    with Lease(copy / "driver.json") as lease:
        assert main(["report", str(copy)]) == 0
        assert holds(copy / "driver.json", lease.token)
    same_rows(pd.read_parquet(path_of(finished)), pd.read_parquet(path_of(copy)))


def test_only_what_is_missing_is_made(finished: Path, copy: Path) -> None:
    """Round 1 goes; a mark in round 2 stays: nothing that is there is sampled anew."""
    rows = pd.read_parquet(path_of(copy))
    rows = rows[rows["round"] == 2].assign(p=0.123)
    rows.to_parquet(path_of(copy))
    counts: list[int] = []
    assert fill_evidence(load_sweep(copy), counts.append) == 1
    assert counts == [1]
    filled, whole = (pd.read_parquet(path_of(root)) for root in (copy, finished))
    assert set(filled.loc[filled["round"] == 2, "p"]) == {0.123}
    same_rows(*(frame[frame["round"] == 1].reset_index(drop=True) for frame in (whole, filled)))


def test_evidence_on_other_predictions_than_the_rows_is_no_evidence(finished: Path, copy: Path) -> None:
    """As left by a round that was run again on other hardware, by another version, and killed half-way."""
    rows = pd.read_parquet(path_of(copy))
    rows.loc[rows["round"] == 2, "observed"] += 0.001
    rows.to_parquet(path_of(copy))
    sweep = load_sweep(copy)
    assert set(sweep.evidence["round"]) == {0, 1}
    assert fill_evidence(sweep) == 1
    assert set(sweep.evidence["round"]) == {0, 1, 2}
    same_rows(pd.read_parquet(path_of(finished)), pd.read_parquet(path_of(copy)))


def test_rounds_without_predictions_get_none(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forget(copy)
    shutil.rmtree(copy / "predictions")
    assert main(["report", str(copy)]) == 0
    assert "no evidence; the predictions are gone" in capsys.readouterr().out
    assert set(load_sweep(copy).evidence["round"]) == {0}


@pytest.mark.parametrize("path", [path_of, base_path_of])
def test_a_damaged_table_is_named_and_deleted_is_made_anew(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str], path: Any
) -> None:
    path(copy).write_bytes(path(copy).read_bytes()[:-100])
    if path is path_of:
        with pytest.raises(LedgerError, match=rf"{path(copy)}.*Delete it; scp-ray report makes it anew"):
            Ledger(copy).check_trial(trial().trial_id)
    assert main(["report", str(copy)]) == 2
    assert f"{path(copy)}" in capsys.readouterr().err
    path(copy).unlink()
    Ledger(copy).check_trial(trial().trial_id)
    assert main(["report", str(copy)]) == 0
    same_rows(pd.read_parquet(path(finished)), pd.read_parquet(path(copy)))


def test_test_evidence_is_made_when_asked_for_and_stored_nowhere(copy: Path) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    sweep, key = load_sweep(copy), trial().trial_id
    said = pd.read_parquet(copy / "predictions" / f"{key}.parquet")
    test = said[(said["round"] == 2) & (said["split"] == "test")]
    found = evidence_of(sweep, key, 2, "test").set_index("metric")
    classes = len(trial().config.dataset.class_names)
    by_hand = eodd_by_hand(*(test[name].to_numpy() for name in ("label", "prediction", "tone")), classes)
    assert found.loc["eodd", "observed"] == pytest.approx(by_hand, abs=1e-12)
    assert set(found["split"]) == {"test"}
    assert set(evidence_of(sweep, key, 0, "test")["round"]) == {0}
    stored = evidence_of(sweep, key, 1)
    assert stored["observed"].tolist() == pd.read_parquet(path_of(copy)).query("round == 1")["observed"].tolist()
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("index", "split"), [(3, "val"), (2, "train")])
def test_what_is_not_there_is_named(finished: Path, index: int, split: str) -> None:
    with pytest.raises(LedgerError, match=r"no round 3|on the split 'train'"):
        evidence_of(load_sweep(finished), trial().trial_id, index, split)


def table_of(group: list[int]) -> pd.DataFrame:
    label = np.array([0, 1] * (len(group) // 2))
    unit = [str(i) for i in range(len(group))]
    frame: pd.DataFrame = evidence_table(
        1, "val", label, label, np.array(group), unit, num_classes=2, seed=0
    ).to_pandas()
    return frame


def test_more_than_two_groups_have_no_evidence_and_an_empty_group_has_nan() -> None:
    assert len(table_of([0, 1, 2, 0, 1, 2])) == 0
    assert table_of([0] * 6)["floor_mean"].isna().all()
    assert table_of([0, 1, 1, 0, 1, 0])["metric"].tolist() == METRICS
