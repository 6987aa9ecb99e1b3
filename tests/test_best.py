"""Which arm is the best, by hand: of trials whose FATE is written down."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_load_sweep import arm, round_rows, write_sweep

from scp_ray.ledger import Sweep, load_sweep
from scp_ray.report.best import arms_best_first, best_first
from scp_ray.report.figures.rows import arms_in_turn
from scp_ray.report.yardstick import yardstick_of


def labels(sweep: Sweep) -> list[str]:
    return [each.arm for each in arms_best_first(sweep)]


def sweep_of(root: Path, fates: dict[str, list[float]], **config: object) -> Sweep:
    """An arm per letter with a trial per FATE, each read at round 1."""
    arms, rounds = [], {}
    for name, values in fates.items():
        arms.append(arm(name, {}, {seed: f"{name}{seed}" for seed in range(len(values))}, select="round:1", **config))
        for seed, fate in enumerate(values):
            key = f"{name}{seed}"
            rounds[key] = round_rows(key, [0.0, fate], f1=[0.5, 0.5], eodd=[0.2, 0.1], stopped="fairness")
    return load_sweep(write_sweep(root, arms, rounds))


def test_the_highest_mean_first_undefined_ones_last(tmp_path: Path) -> None:
    """Means 0.2, 0.35, 0.3 of the one seed that has a FATE, and none."""
    found = sweep_of(
        tmp_path / "s", {"a": [0.1, 0.3], "b": [0.3, 0.4], "c": [0.3, math.nan], "d": [math.nan, math.nan]}
    )
    placed = arms_best_first(found)
    assert [(each.arm, each.fit) for each in placed] == [("b", True), ("c", True), ("a", True), ("d", True)]
    assert [each.fate for each in placed] == pytest.approx([0.35, 0.3, 0.2, math.nan], nan_ok=True)
    turns = arms_in_turn(found, pd.DataFrame({"arm": ["d", "a", "c"]}))
    assert list(turns.items()) == [("c", 2), ("a", 2), ("d", 0)], "what has none comes last and was not ranked"


def test_what_is_not_whole_comes_after_what_is(tmp_path: Path) -> None:
    found = sweep_of(tmp_path / "s", {"a": [0.1, 0.2], "b": [0.8, 0.9]})
    (found.ledger.root / "rounds" / "b1.parquet").unlink()
    placed = arms_best_first(load_sweep(found.ledger.root))
    assert [(each.arm, each.fit) for each in placed] == [("a", True), ("b", False)]


def test_what_breaks_a_constraint_comes_after_what_keeps_it() -> None:
    index = ["a", "b", "c", "d"]
    whole = pd.Series([True, True, False, True], index)
    keeps = pd.Series([True, False, True, True], index)
    fate, f1 = pd.Series([0.1, 0.9, 0.5, math.nan], index), pd.Series([0.5, 0.6, 0.7, 0.8], index)
    order = list(best_first(whole, keeps, fate, f1))
    assert order == ["a", "d", "b", "c"], "an undefined FATE is the worst of its kind"


def test_without_a_fate_anywhere_the_highest_f1_is_the_best() -> None:
    yes, none = pd.Series([True, True, False], ["a", "b", "c"]), pd.Series(math.nan, ["a", "b", "c"])
    assert list(best_first(yes, yes, none, pd.Series([0.5, 0.6, 0.9], yes.index))) == ["b", "a", "c"]


@pytest.mark.parametrize(("gap", "order"), [("eodd", ["a", "b"]), ("eopp0", ["b", "a"])])
def test_fate_is_of_the_gap_that_the_sweep_stops_by(tmp_path: Path, gap: str, order: list[str]) -> None:
    found = sweep_of(tmp_path / "s", {"a": [0.5], "b": [0.1]}, stop={"gap": gap})
    for key, other in (("a0", 0.0), ("b0", 0.4)):
        _with(found.ledger.root, key, {"val_eopp0": [0.2, 0.1], "val_fate_eopp0_base": [0.0, other]})
    assert labels(load_sweep(found.ledger.root)) == order


def test_trials_of_several_base_methods_are_held_against_vanilla(tmp_path: Path) -> None:
    """Against its own base b is the better one; both against vanilla, a."""
    found = sweep_of(tmp_path / "s", {"a": [0.1], "b": [0.5]})
    for key, against in (("a0", 0.3), ("b0", 0.2)):
        _with(found.ledger.root, key, {"val_fate_eodd_vanilla": [0.0, against]})
    again = load_sweep(found.ledger.root)
    assert labels(again) == ["b", "a"]
    again.definition["arms"][0]["trials"][0]["vanilla_id"] = "another"
    del again.trials  # read anew
    assert yardstick_of(again).title == "FATE of Eodd against vanilla"
    assert labels(again) == ["a", "b"]


def _with(root: Path, key: str, columns: dict[str, list[float]]) -> None:
    path = root / "rounds" / f"{key}.parquet"
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)
