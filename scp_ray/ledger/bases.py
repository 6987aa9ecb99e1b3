"""The report of a base model, made once a process: every trial of a worker begins at the same few."""

from __future__ import annotations

from functools import lru_cache

from scp_ray.ledger.files import read_table, written
from scp_ray.ledger.records import KEPT
from scp_ray.maths.report import FairnessReport, fairness_report
from scp_ray.places import AnyPath


def base_report(folder: AnyPath, num_classes: int) -> FairnessReport:
    """Its validation report, from its stored predictions."""
    path = folder / "predictions.parquet"
    return _report(path, written(path), num_classes)


@lru_cache(maxsize=KEPT)
def _report(path: AnyPath, written: object, num_classes: int) -> FairnessReport:
    table = read_table(path)
    val = table[table["split"] == "val"]
    columns = list(table.columns)
    attribute = columns[columns.index("label") + 1]  # the primary one comes first
    return fairness_report(val["label"], val["prediction"], val[attribute], num_classes=num_classes)
