"""What can be believed of a round's numbers: made from its predictions when it ends, read ever after.

Of validation alone: what test predictions say is computed when somebody asks for test numbers, and stored nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from scp_ray.errors import LedgerError
from scp_ray.ledger.files import check_table, read_arrow, read_many, read_table, write_table
from scp_ray.maths.uncertainty import evidence
from scp_ray.seeds import derive_seed

if TYPE_CHECKING:
    from scp_ray.ledger.ledger import Ledger
    from scp_ray.ledger.load import Sweep
    from scp_ray.ledger.records import Row
    from scp_ray.parts import Evaluation, FairnessData
    from scp_ray.places import AnyPath

_FLOATS = ("observed", "floor_mean", "floor_low", "floor_high", "p", "excess", "standard_error", "low", "high")
SCHEMA = pa.schema(
    [("round", pa.int32()), ("split", pa.string()), ("metric", pa.string())]
    + [(name, pa.float64()) for name in _FLOATS]
    + [("permutations", pa.int32()), ("draws", pa.int32()), ("seed", pa.int64()), ("n", pa.int32())]
    + [("units", pa.int32())]
)


def evidence_table(
    index: int,
    split: str,
    label: NDArray[Any],
    prediction: NDArray[Any],
    group: NDArray[Any],
    unit: Sequence[str],
    *,
    num_classes: int,
    seed: int,
) -> pa.Table:
    """A row per metric of one round's predictions (N,) on one split, as SCHEMA says.

    The stream is the training seed's and the split's: all arms and rounds of a seed are permuted alike, and a round
    that is run again, or whose evidence is made later from the stored predictions, gets the same numbers.
    No rows where the attribute has more than two groups: the gaps are between two.
    """
    if len(group) == 0 or int(np.max(group)) > 1:
        return SCHEMA.empty_table()
    units = pd.factorize(np.asarray(unit))[0]
    common = {"round": index, "split": split, "n": len(label), "units": int(units.max()) + 1}
    drawn = derive_seed(seed, "evidence", split)
    found = evidence(label, prediction, group, num_classes=num_classes, unit=units, seed=drawn)
    return pa.Table.from_pylist([common | asdict(each) for each in found], schema=SCHEMA)


def of_outputs(row: Row, data: FairnessData, outputs: Evaluation) -> pa.Table:
    """The evidence of a round that ends: its row, and what was said of validation."""
    return evidence_table(
        row["round"],
        "val",
        outputs.label.numpy(),
        outputs.prediction.numpy(),
        outputs.attributes[:, 0].numpy(),
        data.splits["val"].unit,
        num_classes=row["num_classes"],
        seed=row["seed"],
    )


def of_predictions(row: Row, predictions: pd.DataFrame, split: str) -> pa.Table:
    """The same from stored predictions, of which only those of this round and split are looked at."""
    rows = predictions[(predictions["split"] == split) & (predictions["round"] == row["round"])]
    return evidence_table(
        row["round"],
        split,
        rows["label"].to_numpy(),
        rows["prediction"].to_numpy(),
        rows[primary(rows)].to_numpy(),
        list(rows["unit"]),
        num_classes=int(row["num_classes"]),
        seed=int(row["seed"]),
    )


def primary(predictions: pd.DataFrame) -> str:
    """The column of the primary attribute, which stands next to the label."""
    columns = list(predictions.columns)
    return str(columns[columns.index("label") + 1])


def evidence_of(sweep: Sweep, trial_id: str, index: int, split: str = "val") -> pd.DataFrame:
    """The evidence of one round: validation's as it is stored, else computed from the stored predictions.

    Nothing is written. Whoever shows test numbers counts that first (``reveals.count_reveal``). Raises LedgerError for
    a round or a split that the ledger does not hold.
    """
    if split == "val":
        known = sweep.evidence
        stored = known[(known["trial_id"] == trial_id) & (known["round"] == index)]
        if len(stored):
            return stored.drop(columns="trial_id").reset_index(drop=True)
    rounds = sweep.rounds
    rows = (
        rounds[(rounds["trial_id"] == trial_id) & (rounds["round"] == index)].to_dict("records") if len(rounds) else []
    )
    if not rows:
        raise LedgerError(f"{sweep.ledger.root} has no round {index} of trial {trial_id}.")
    predictions = sweep.round_predictions(trial_id, index)
    if split not in set(predictions["split"]):
        raise LedgerError(f"{sweep.ledger.root} has no predictions of trial {trial_id} on the split {split!r}.")
    frame: pd.DataFrame = of_predictions(_row(rows[0]), predictions, split).to_pandas()
    return frame


def evidence_frame(ledger: Ledger, rounds: pd.DataFrame) -> pd.DataFrame:
    """A row per trial, committed round, split and metric; round 0 is its base's."""
    own = _named(ledger.find("evidence/*.parquet"), "trial_id", lambda path: path.stem)
    bases = _named(ledger.find("bases/*/evidence.parquet"), "base_id", lambda path: path.parent.name)
    if "base_id" in rounds:
        starts = rounds.loc[rounds["round"] == 0, ["trial_id", "base_id"]]
        own = pd.concat([starts.merge(bases, on="base_id").drop(columns="base_id"), own], ignore_index=True)
    own = own[agrees(own, rounds, "trial_id")]
    return own.sort_values(["trial_id", "round"], kind="stable").reset_index(drop=True)


def agrees(found: pd.DataFrame, rounds: pd.DataFrame, key: str) -> NDArray[np.bool_]:
    """(len(found),) whether it is of the very predictions that the committed row tells of.

    A round may have been run again with other numbers, or its predictions be there and its row not yet.
    """
    if not len(found) or not len(rounds):
        return np.zeros(len(found), dtype=bool)
    told = rounds.set_index([key, "round"])
    places = told.index.get_indexer(pd.MultiIndex.from_frame(found[[key, "round"]]))
    observed = found["observed"].to_numpy()
    committed = observed.copy()
    for metric in found["metric"].unique():
        if f"val_{metric}" in told:
            rows = (found["metric"] == metric).to_numpy()
            committed[rows] = told[f"val_{metric}"].to_numpy()[places[rows]]
    same: NDArray[np.bool_] = np.isclose(observed, committed, rtol=1e-9, atol=1e-12, equal_nan=True)
    return same & (places >= 0)


def fill_evidence(sweep: Sweep, told: Callable[[int], None] = lambda _: None) -> int:
    """Make what committed rounds lack, from their predictions; what is there is never sampled anew.

    An older sweep has none; rounds whose predictions are gone get none. May run beside a driver: each file is replaced
    in one step, and a round that the driver commits in that moment and whose evidence is thereby lost is made by the
    next call. ``told`` is given the number of rounds to come before the first is made. Returns how many were made.
    Raises LedgerError.
    """
    bases, trials = list(_bases_without(sweep)), list(_trials_without(sweep))
    count = len(bases) + sum(len(rows) for _, rows in trials)
    if not count:
        return 0
    told(count)
    made = 0
    for row in bases:
        table = of_predictions(row, sweep.base_predictions(row["base_id"]), "val")
        made += _write(_base_path(sweep.ledger, row["base_id"]), [table], SCHEMA.empty_table())
    for trial_id, rows in trials:
        predictions = sweep.predictions(trial_id)
        tables = [of_predictions(row, predictions, "val") for row in rows]
        path = sweep.ledger.table_path("evidence", trial_id)
        made += _write(path, tables, read_arrow(path) if path.exists() else SCHEMA.empty_table())
    sweep.__dict__.pop("evidence", None)  # read again on next use
    return made


def check_evidence(path: AnyPath) -> None:
    """Raises LedgerError where it is torn; an older sweep has none."""
    if path.exists():
        check_table(path)


def _base_path(ledger: Ledger, base_id: str) -> AnyPath:
    return ledger.base_folder(base_id) / "evidence.parquet"


def _named(paths: Sequence[AnyPath], key: str, name: Callable[[AnyPath], str]) -> pd.DataFrame:
    tables = [
        table.add_column(0, key, pa.array([name(path)] * len(table), pa.string()))
        for path, table in zip(paths, read_many(paths), strict=True)
    ]
    empty = SCHEMA.empty_table().add_column(0, key, pa.array([], pa.string()))
    frame: pd.DataFrame = pa.concat_tables([empty, *tables], promote_options="permissive").to_pandas()
    return frame


def _bases_without(sweep: Sweep) -> Iterator[Row]:
    if not len(sweep.bases) or "num_classes" not in sweep.bases:
        return
    for row in sweep.bases.to_dict("records"):
        path = _base_path(sweep.ledger, row["base_id"])
        if not (path.parent / "predictions.parquet").exists():
            continue
        stored = read_table(path).assign(base_id=row["base_id"]) if path.exists() else None
        if stored is None or not agrees(stored, sweep.bases, "base_id").any():
            yield _row(row)


def _trials_without(sweep: Sweep) -> Iterator[tuple[str, list[Row]]]:
    rounds = sweep.rounds
    if not len(rounds) or "num_classes" not in rounds:
        return
    known = set(zip(sweep.evidence["trial_id"], sweep.evidence["round"], strict=True))
    for trial_id, rows in rounds[rounds["round"] > 0].groupby("trial_id"):
        lacking = [row for row in rows.to_dict("records") if (trial_id, row["round"]) not in known]
        if lacking and sweep.ledger.table_path("predictions", str(trial_id)).exists():
            yield str(trial_id), [_row(row) for row in lacking]


def _row(record: Mapping[Any, Any]) -> Row:
    return {str(key): value for key, value in record.items()}


def _write(path: AnyPath, made: Sequence[pa.Table], before: pa.Table) -> int:
    """The rounds made take the place of those that were there; returns how many there are."""
    made = [table for table in made if len(table)]
    if not made:
        return 0
    rounds = pa.array([table["round"][0].as_py() for table in made], pa.int32())
    kept = before.filter(pa.compute.invert(pa.compute.is_in(before["round"], value_set=rounds)))
    write_table(path, pa.concat_tables([kept, *made], promote_options="permissive").sort_by("round"))
    return len(made)
