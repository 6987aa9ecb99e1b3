"""What a ledger writes: files that are complete or absent, rounds that are never doubled, predictions."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from miniature import TRIAL
from sklearn.metrics import f1_score

from scp_ray.config import TrialConfig, resolve
from scp_ray.errors import LedgerError
from scp_ray.ledger import Ledger
from scp_ray.ledger.files import read_json, replace_rounds, write_bytes
from scp_ray.ledger.load import Sweep
from scp_ray.ledger.rows import predictions_table
from scp_ray.parts import Evaluation, FairnessData, Split
from scp_ray.tune.record import record_base


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def full_disk(monkeypatch):
    """Every fsync from here on finds no space left."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a" / "b" / "sweep.json"
    write_bytes(path, b"first, and longer")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert files_below(tmp_path) == {"a/b/sweep.json"}


def test_content_is_on_the_disk_before_the_name_is_and_the_name_before_the_call_ends(tmp_path, monkeypatch):
    path, synced = tmp_path / "sweep.json", []
    path.write_bytes(b"old")

    def note(handle: int) -> None:
        synced.append(("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file", path.read_bytes()))

    monkeypatch.setattr(os, "fsync", note)
    write_bytes(path, b"new")
    assert synced == [("file", b"old"), ("folder", b"new")]


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, full_disk):
    path = tmp_path / "sweep.json"
    path.write_bytes(b"old")
    with pytest.raises(LedgerError, match=r"cannot write .*sweep\.json.*No space left on device.*Free space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert files_below(tmp_path) == {"sweep.json"}


def test_a_full_disk_makes_no_first_file(tmp_path, full_disk):
    with pytest.raises(LedgerError, match="No space left"):
        write_bytes(tmp_path / "new.json", b"new")
    assert files_below(tmp_path) == set()


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "results").write_bytes(b"a file")
    with pytest.raises(LedgerError, match=r"cannot write .*results"):
        write_bytes(tmp_path / "results" / "sweep.json", b"new")
    assert (tmp_path / "results").read_bytes() == b"a file"


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1]", b"\xff"])
def test_json_that_is_no_object_is_a_ledger_error(tmp_path, content):
    path = tmp_path / "sweep.json"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"sweep\.json"):
        read_json(path)


def rounds_in(path: Path) -> list[tuple[int, str]]:
    table = pq.read_table(path)
    return list(zip(table["round"].to_pylist(), table["text"].to_pylist(), strict=True))


def put(path: Path, index: int, *texts: str) -> None:
    replace_rounds(path, pa.table({"round": pa.array([index] * len(texts), pa.int64()), "text": list(texts)}), [index])


def test_rows_of_a_round_are_replaced_and_later_ones_dropped(tmp_path):
    path = tmp_path / "rounds.parquet"
    put(path, 0, "zero")
    put(path, 1, "one a", "one b")
    put(path, 2, "two")
    assert rounds_in(path) == [(0, "zero"), (1, "one a"), (1, "one b"), (2, "two")]
    put(path, 2, "two again")
    assert rounds_in(path) == [(0, "zero"), (1, "one a"), (1, "one b"), (2, "two again")]
    put(path, 1, "one again")
    assert rounds_in(path) == [(0, "zero"), (1, "one again")]
    put(path, 0, "zero again")
    assert rounds_in(path) == [(0, "zero again")]


def test_rows_with_a_new_column_join_the_old_ones(tmp_path):
    path = tmp_path / "rounds.parquet"
    put(path, 0, "zero")
    replace_rounds(path, pa.table({"round": [1], "text": ["one"], "extra": [0.5]}), [1])
    assert pq.read_table(path)["extra"].to_pylist() == [None, 0.5]
    assert rounds_in(path) == [(0, "zero"), (1, "one")]


def test_a_damaged_table_is_named_and_left_alone(tmp_path):
    path = tmp_path / "rounds.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(LedgerError, match=r"rounds\.parquet.*Delete it"):
        put(path, 1, "one")
    assert path.read_bytes() == b"PAR1 no more"


def split(count: int) -> Split:
    names = tuple(f"image{i}" for i in range(count))
    units = tuple(f"lesion{i // 2}" for i in range(count))
    zeros = torch.zeros(count, dtype=torch.long)
    return Split(torch.zeros(count, 3, 1, 1, dtype=torch.uint8), zeros, torch.zeros(count, 2).long(), names, units)


def test_predictions_are_kept_in_the_promised_types():
    data = FairnessData("made", ("a", "b", "c"), ("sex", "age"), 0, {"val": split(2), "test": split(1)})
    logits = torch.tensor([[0.1, 2.0, -1.0], [1e6, -1e6, 0.0]])
    val = Evaluation(torch.tensor([1, 0]), torch.tensor([[0, 2], [1, 1]]), logits, torch.tensor([1, 0]))
    test = Evaluation(torch.tensor([2]), torch.tensor([[1, 0]]), torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([2]))
    table = predictions_table(3, data, {"val": val, "test": test})
    logits_type = table.schema.field("logits").type
    assert (logits_type.list_size, logits_type.value_type) == (3, pa.float16())
    types = {name: str(table.schema.field(name).type) for name in table.schema.names if name != "logits"}
    assert types == {
        **{"round": "int32", "split": "string", "id": "string", "unit": "string", "label": "int16"},
        **{"sex": "int16", "age": "int16", "prediction": "int16"},
    }
    rows = table.to_pydict()
    half = rows.pop("logits")
    assert rows == {
        "round": [3, 3, 3],
        "split": ["val", "val", "test"],
        "id": ["image0", "image1", "image0"],
        "unit": ["lesion0", "lesion0", "lesion0"],
        "label": [1, 0, 2],
        "sex": [0, 1, 1],
        "age": [2, 1, 0],
        "prediction": [1, 0, 2],
    }
    # 0.1 in half precision is 1638 / 2**14; its largest number is 65504
    assert [[float(x) for x in row] for row in half] == [[1638 / 2**14, 2, -1], [65504, -65504, 0], [0, 0.5, 1]]


def test_the_report_of_a_base_model_is_made_of_its_stored_validation_predictions(tmp_path):
    random = np.random.default_rng(5)
    label, other, sex, age = (random.integers(high, size=200) for high in (3, 3, 2, 2))
    prediction = np.where(random.random(200) < 0.4, label, other)
    where = np.repeat(["val", "test"], 100)
    columns = {"round": 0 * label, "split": where, "id": where, "unit": where, "label": label, "sex": sex, "age": age}
    folder = tmp_path / "bases" / "b"
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns | {"prediction": prediction}), folder / "predictions.parquet")
    report = Ledger(tmp_path).base_report("b", 3)
    expected = [
        f1_score(*(x[(where == "val") & (sex == s)] for x in (label, prediction)), average="macro") for s in (0, 1)
    ]
    np.testing.assert_allclose(report.f1, expected, rtol=1e-12)
    assert report.support.sum() == 100
    assert report.f1_mean == pytest.approx(sum(expected) / 2, rel=1e-12)


def test_where_a_method_pruned_weights_is_told(tmp_path: Path) -> None:
    """Layer by layer, and together the share that was asked for: round(0.35 * P) of P weights."""
    trial = resolve(TrialConfig.from_dict(TRIAL | {"method": {"name": "obd", "samples": 8}}))
    ledger = Ledger(tmp_path)
    for config in trial.bases().values():
        record_base(config, ledger, device=torch.device("cpu"))
    write_bytes(ledger.definition_path, b'{"format": 1, "arms": []}')
    told = Sweep(ledger).base_sparsity(trial.base_id)
    state = ledger.base_state(trial.base_id)
    weights = {
        key.removesuffix(".weight").removesuffix(".parametrizations.weight.original"): value.numel()
        for key, value in state.items()
        if value.ndim in (2, 4) and not key.endswith(".keep")
    }
    pruned = [round(share * weights[layer]) for layer, share in zip(told["layer"], told["pruned"], strict=True)]
    assert sum(pruned) == round(0.35 * sum(weights.values()))
    assert sum(pruned) == sum(int((~value).sum()) for key, value in state.items() if key.endswith("weight.0.keep"))
    assert len(Sweep(ledger).base_sparsity(trial.vanilla_id)) == 0


def test_predictions_say_which_exit_decided() -> None:
    image = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    split = Split(image, torch.tensor([0, 1, 1]), torch.tensor([[0], [1], [0]]), ("a", "b", "c"), ("a", "b", "c"))
    data = FairnessData("d", ("x", "y"), ("sex",), 0, {"val": split})
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    said = Evaluation(split.label, split.attributes, logits, logits.argmax(1), torch.tensor([0, 4, 2]))
    assert predictions_table(1, data, {"val": said}).column("head").to_pylist() == [0, 4, 2]
    plain = Evaluation(split.label, split.attributes, logits, logits.argmax(1))
    assert "head" not in predictions_table(1, data, {"val": plain}).column_names
