"""Test numbers of what a search has selected, made from stored predictions; who calls it has counted the look."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.ledger.evidence import evidence_of
from scp_ray.maths.fate import fate
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.report import FairnessReport, fairness_report
from scp_ray.maths.uncertainty import FLOORED
from scp_ray.report.objectives import seed_rows
from scp_ray.report.search_result import SearchResult

FILES = ("search-test.csv", "tables/table-test.*")  # that a report writes of test numbers


def remove_test_files(sweep: Sweep) -> None:
    """Those of an earlier report would stand beside a newer one as if they were of it; they can be made again."""
    for pattern in FILES:
        for path in (sweep.ledger.root / "report").glob(pattern):
            path.unlink(missing_ok=True)


def selected_arms(result: SearchResult) -> list[str]:
    """The configurations that a report selects: the front's, and the best under each constraint."""
    best = result.best["arm"].dropna() if "arm" in result.best else pd.Series(dtype=object)
    return list(dict.fromkeys([*result.front["arm"], *best]))


def revealed(sweep: Sweep, result: SearchResult) -> pd.DataFrame:
    """A row per selected configuration and objective: seeds, validation, test with its noise floor, optimism.

    ``n`` are the test images of a seed, ``floor`` is the mean over seeds of what a gap would be by chance there (NaN of
    what is no gap).
    ``optimism`` is validation minus test, turned so that positive means validation looked better; ``configurations``
    is how many the selection was made from.
    """
    rows, judged = seed_rows(sweep), result.objectives
    found = []
    for arm in selected_arms(result):
        own = rows[rows["arm"] == arm]
        tests = [_test_row(sweep, {str(key): value for key, value in row.items()}) for row in own.to_dict("records")]
        floors = _floors(sweep, own) if any(part.metric.removeprefix("val_") in FLOORED for part in judged) else {}
        for part in judged:
            name = part.metric.removeprefix("val_")
            val = float(own[part.metric].mean(skipna=False))
            test = float(np.mean([row.get(name, float("nan")) for row in tests]))
            number = result.configurations.set_index("arm").loc[arm, "number"]
            found.append(
                {"number": number, "arm": arm, "objective": part.metric, "seeds": len(own), "validation": val}
                | {"test": test, "floor": floors.get(name, math.nan), "optimism": -part.sign * (val - test)}
                | {"n": int(tests[0]["n"]), "configurations": result.tried}
            )
    return pd.DataFrame(found)


def _floors(sweep: Sweep, own: pd.DataFrame) -> dict[str, float]:
    """By gap the mean of its noise floors on the test split, over the seeds' selected rounds."""
    places = zip(own["trial_id"], own["selected_round"], strict=True)
    found = pd.concat([evidence_of(sweep, trial_id, int(index), "test") for trial_id, index in places])
    means = found.groupby("metric")["floor_mean"].mean()
    return {str(name): float(mean) for name, mean in means.items()}


def _test_row(sweep: Sweep, row: dict[str, Any]) -> dict[str, float]:
    """The metrics of one trial's selected round on the test split, FATE against both baselines included."""
    classes = int(row["num_classes"])
    base = _report(sweep.base_predictions(row["base_id"]), classes)
    vanilla = _report(sweep.base_predictions(row["vanilla_id"]), classes)
    index = int(row["selected_round"])
    if index:
        predictions = sweep.predictions(row["trial_id"])
        report = _report(predictions[predictions["round"] == index], classes)
    else:
        report = base
    numbers = report.as_row()
    for gap in GAPS:
        for title, baseline in (("base", base), ("vanilla", vanilla)):
            against = {"f1_baseline": baseline.f1_mean, "gap_baseline": baseline.gap(gap)}
            numbers[f"fate_{gap}_{title}"] = fate(report.f1_mean, report.gap(gap), **against)
    return numbers


def _report(predictions: pd.DataFrame, num_classes: int) -> FairnessReport:
    test = predictions[predictions["split"] == "test"]
    columns = list(test.columns)
    attribute = columns[columns.index("label") + 1]  # the primary one comes first
    return fairness_report(test["label"], test["prediction"], test[attribute], num_classes=num_classes)
