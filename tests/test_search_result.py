"""What a search has found, from a ledger whose numbers were chosen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asking import ask

from scp_ray.cli.trade_offs import trade_offs
from scp_ray.ledger import load_sweep
from scp_ray.report.search_result import search_result
from scp_ray.report.test_numbers import revealed

# mean F1 and Eodd of a configuration; its two seeds lie 0.01 to either side
POINTS = {"D": (0.41, 0.31), "A": (0.61, 0.21), "B": (0.51, 0.09), "C": (0.59, 0.11), "E": (0.585, 0.115)}
BASE = (0.50, 0.20)  # round 0 of both seeds
VANILLA_F1 = (0.56, 0.58)  # mean 0.57: 0.97 of it is 0.5529
HALF = 2.5705818 * 0.01  # t(0.975, 5) x sqrt(0.0002) / sqrt(2): five configurations, each two seeds 0.02 apart
SEARCH = {
    "objectives": [{"metric": "val_f1", "direction": "max"}, {"metric": "val_eodd", "direction": "min"}],
    "constraints": [],
    "space": [
        {"key": "pr_c", "kind": "float", "low": 0.01, "high": 0.2, "log": True, "choices": []},
        {"key": "layer", "kind": "choice", "low": 0, "high": 0, "log": False, "choices": [-1, -2]},
    ],
}


def row(index: int, f1: float, eodd: float, **more: Any) -> dict[str, Any]:
    fates = {f"val_fate_{gap}_{name}": 0.1 * index for gap in ("eodd",) for name in ("base", "vanilla")}
    numbers = {
        "round": index,
        "val_f1": f1,
        "val_eodd": eodd,
        "val_n": 40,
        "val_balanced_accuracy": 0.65,
        "num_classes": 2,
        "from_base": not index,
    }
    return numbers | fates | {"stop_reason": "", "stopped": False} | more


def predictions(answers: list[int], index: int) -> pa.Table:
    """Of test four images of group 0, all answered rightly, and four of group 1; of validation all rightly."""
    label, names = [0, 0, 1, 1], list("abcdefgh")
    columns = {"round": [index] * 16, "split": ["test"] * 8 + ["val"] * 8, "id": names * 2, "unit": names * 2}
    columns |= {"label": label * 4, "tone": ([0] * 4 + [1] * 4) * 2, "prediction": label + answers + label * 2}
    return pa.table(columns)


def write(root: Path, search: dict[str, Any] | None, points: Mapping[str, tuple[float, float]] = POINTS) -> Path:
    for kind in ("rounds", "predictions", "bases/b0", "bases/b1", "bases/v0", "bases/v1", "failures"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    arms = []
    for number, (label, (f1, eodd)) in enumerate(points.items()):
        trials = []
        for seed in (0, 1):
            name, off = f"{label}{seed}", 0.02 * seed - 0.01
            trials.append({"seed": seed, "trial_id": name, "base_id": f"b{seed}", "vanilla_id": f"v{seed}"})
            rows = [
                row(at, *each, trial_id=name, base_id=f"b{seed}", seed=seed)
                for at, each in enumerate((BASE, (f1 + off, eodd + off)))
            ]
            pq.write_table(pa.Table.from_pylist(rows), root / "rounds" / f"{name}.parquet")
            pq.write_table(predictions([0, 1, 1, 1], 1), root / "predictions" / f"{name}.parquet")
        stop = {"th_acc": 0.03, "th_fair": 0.0, "gap": "eodd", "enforce": False}
        arm = {"label": label, "settings": {"pr_c": 0.02 + number / 100, "layer": -1 - number % 2}, "trials": trials}
        arm["config"] = {"rounds": 1, "select": "best_val_fate", "stop": stop}
        arms.append(arm | ({"search": {"number": number, "state": "COMPLETE"}} if search is not None else {}))
    for seed in (0, 1):
        for name, f1 in ((f"b{seed}", BASE[0]), (f"v{seed}", VANILLA_F1[seed])):
            pq.write_table(
                pa.Table.from_pylist([row(0, f1, BASE[1], base_id=name, seed=seed, method="vanilla")]),
                root / f"bases/{name}/rounds.parquet",
            )
            pq.write_table(predictions([1, 1, 1, 1], 0), root / f"bases/{name}/predictions.parquet")
    definition: dict[str, Any] = {"name": root.name, "arms": arms, "definition": {"search": search}, "test_reveals": 2}
    (root / "sweep.json").write_text(json.dumps(definition))
    return root


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "made", SEARCH)


def test_means_intervals_front_and_knee(folder):
    result = search_result(load_sweep(folder))
    table = result.configurations.set_index("arm")
    assert table.index.tolist() == list(POINTS)
    assert table["number"].tolist() == [0, 1, 2, 3, 4]
    for label, (f1, eodd) in POINTS.items():
        assert table.loc[label, ["val_f1", "val_eodd"]].tolist() == pytest.approx([f1, eodd])
        assert table.loc[label, ["val_f1_low", "val_f1_high"]].tolist() == pytest.approx([f1 - HALF, f1 + HALF])
        assert table.loc[label, ["val_eodd_low", "val_eodd_high"]].tolist() == pytest.approx([eodd - HALF, eodd + HALF])
    assert table.index[table["front"]].tolist() == ["A", "B", "C"]
    # scaled to the front, C lies at (0.2, 1/6), well inside the chord from (0, 1) to (1, 0)
    assert table.index[table["knee"]].tolist() == ["C"]
    # E is 0.005 behind C in both; D is 0.2 and 0.1 behind A, and the interval of a difference is 0.036
    assert table.index[table["near_front"]].tolist() == ["A", "B", "C", "E"]
    assert table["rounds"].unique().tolist() == ["1 1"]
    assert result.before == pytest.approx({"val_f1": 0.5, "val_eodd": 0.2})


def test_hypervolume_grows_by_hand(folder):
    """Below the worst seen, F1 0.41 and Eodd 0.31: A adds 0.2 x 0.1, B 0.1 x 0.12, C 0.008."""
    result = search_result(load_sweep(folder))
    assert result.reference == pytest.approx({"val_f1": 0.41, "val_eodd": 0.31})
    assert result.volumes["hypervolume"].tolist() == pytest.approx([0, 0.02, 0.032, 0.04, 0.04])


def test_only_what_keeps_the_constraint_stands_on_the_front(tmp_path):
    """0.97 of the vanilla models' 0.56 and 0.58 is 0.5529 in the mean: B and D are below."""
    limit = {"metric": "val_f1", "sign": ">=", "factor": 0.97, "base": "vanilla"}
    result = search_result(load_sweep(write(tmp_path / "made", SEARCH | {"constraints": [limit]})))
    table = result.configurations.set_index("arm")
    assert table.index[table["feasible"]].tolist() == ["A", "C", "E"]
    assert table.index[table["front"]].tolist() == ["A", "C"]
    assert not table["knee"].any()  # two points are a chord
    assert result.volumes["hypervolume"].tolist() == pytest.approx([0, 0.02, 0.02, 0.038, 0.038])
    best = result.best.set_index(["constraint", "objective"])["arm"]
    assert best.to_dict() == {
        ("none", "val_f1"): "A",
        ("none", "val_eodd"): "B",
        ("val_f1 >= 0.97 * vanilla", "val_f1"): "A",
        ("val_f1 >= 0.97 * vanilla", "val_eodd"): "C",
    }


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (("<=", 0.112, None), ["B", "C"]),
        ((">=", 0.2, None), ["D", "A"]),
        (("<=", 0.6, "base"), ["B", "C", "E"]),  # round 0 has 0.2
    ],
)
def test_constraints_are_read_by_their_sides(tmp_path, limit, kept):
    entry = dict(zip(("sign", "factor", "base"), limit, strict=True)) | {"metric": "val_eodd"}
    sweep = load_sweep(write(tmp_path / "made", SEARCH | {"constraints": [entry]}))
    table = search_result(sweep).configurations
    assert table["arm"][table["feasible"]].tolist() == kept


def test_what_is_not_whole_is_left_out_and_counted(folder):
    (folder / "rounds" / "A0.parquet").unlink()
    (folder / "rounds" / "B1.parquet").unlink()
    (folder / "failures" / "B1.json").write_text(json.dumps({"id": "B1", "reason": "the loss"}))
    definition = json.loads((folder / "sweep.json").read_text())
    definition["arms"][0]["search"]["state"] = "PRUNED"
    (folder / "sweep.json").write_text(json.dumps(definition))
    result = search_result(load_sweep(folder))
    assert result.left_out == {"not finished": 1, "a seed failed": 1, "stopped early by the search": 1}
    assert result.configurations["arm"].tolist() == ["C", "E"]
    assert result.tried == 3  # what was stopped early was beaten
    assert result.configurations["number"].tolist() == [3, 4]


def test_a_single_seed_has_no_interval_and_tells_nothing_apart(folder):
    definition = json.loads((folder / "sweep.json").read_text())
    for arm in definition["arms"]:
        arm["trials"] = arm["trials"][:1]
    (folder / "sweep.json").write_text(json.dumps(definition))
    table = search_result(load_sweep(folder)).configurations
    assert table["val_f1_low"].isna().all()
    assert table["near_front"].all()
    assert table["arm"][table["front"]].tolist() == ["A", "B", "C"]


def test_a_grid_is_read_the_same_way(tmp_path):
    result = search_result(load_sweep(write(tmp_path / "made", None)))
    assert [part.metric for part in result.objectives] == ["val_f1", "val_eodd"]
    assert result.configurations["number"].tolist() == [1, 2, 3, 4, 5]
    assert result.front["arm"].tolist() == ["A", "B", "C"]


def test_test_numbers_of_what_was_selected(tmp_path):
    """Group 1's answers 0 1 1 1 to 0 0 1 1: F1 2/3 and 4/5, Eodd 1/4; its base's 1 1 1 1: F1 0 and 2/3, Eodd 1/2."""
    objectives = [*SEARCH["objectives"], {"metric": "val_fate_eodd_base", "direction": "max"}]
    sweep = load_sweep(write(tmp_path / "made", SEARCH | {"objectives": objectives}))
    table = revealed(sweep, search_result(sweep)).set_index(["arm", "objective"])
    # the front, and D, the first of five that are equally good in FATE
    assert set(table.index.get_level_values("arm")) == {"A", "B", "C", "D"}
    f1 = (1 + (2 / 3 + 4 / 5) / 2) / 2
    assert table.loc[("A", "val_f1"), ["validation", "test", "optimism"]].tolist() == pytest.approx(
        [0.61, f1, 0.61 - f1]
    )
    assert table.loc[("A", "val_eodd"), ["test", "optimism"]].tolist() == pytest.approx([0.25, 0.25 - 0.21])
    # of 8 images one is answered wrong, and whichever group it is put into, the gap is the same
    assert table["n"].unique().tolist() == [8]
    floors = table["floor"].unstack()
    assert floors[["val_f1", "val_fate_eodd_base"]].isna().all(axis=None)
    assert floors["val_eodd"].tolist() == pytest.approx([0.25] * 4)
    base_f1 = (1 + 1 / 3) / 2
    assert table.loc[("C", "val_fate_eodd_base"), "test"] == pytest.approx(f1 / base_f1 - 0.25 / 0.5)
    assert table["configurations"].unique().tolist() == [5]


def test_looks_at_the_test_split_are_counted(folder):
    assert "test" not in trade_offs(load_sweep(folder), show_test=False)
    assert json.loads((folder / "sweep.json").read_text())["test_reveals"] == 2
    shown = "\n".join(trade_offs(load_sweep(folder), show_test=True)["lines"])
    assert "front of 5 configurations" in shown
    assert "have now been shown 3 times" in shown
    assert "Test split, n = 8 images, means over seeds (of 0, 1)" in shown and "best_val_fate" in shown
    # arm, objective, seeds, validation, test, floor
    assert len(re.findall(r"\b[ABC] +val_eodd +2 +0\.\d{4} +0\.2500 +0\.2500 ", shown)) == 3
    assert json.loads((folder / "sweep.json").read_text())["test_reveals"] == 3
    assert not (folder / "driver.json").exists()
    written = {path.name for path in (folder / "report").iterdir()}
    pictures = {f"{stem}.{kind}" for stem in ("search-pareto", "search-hypervolume") for kind in ("png", "svg")}
    tables = {f"search-{name}.csv" for name in ("configurations", "best", "hypervolume", "test")}
    assert pictures | tables <= written
    assert pd.read_csv(folder / "report" / "search-configurations.csv")["front"].tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert "3 on the front, 1 more cannot be told from it" in shown
    # of two classes a guesser on 40 images has 0.5 with a standard error of 0.079, and 0.65 is within two
    assert "base models at chance, 4 of 4, by balanced accuracy (guessing gives 0.500): " in shown
    assert shown.count(" (0.650)") == 4


def test_test_numbers_are_refused_while_the_sweep_runs(folder):
    import os
    import socket
    import time

    held = {"host": socket.gethostname(), "pid": os.getppid(), "token": "other", "heartbeat": time.time() + 30}
    (folder / "driver.json").write_text(json.dumps(held))
    assert ask("report", folder, "--show-test").code == 4
    assert json.loads((folder / "sweep.json").read_text())["test_reveals"] == 2


def test_importance_finds_the_parameter_that_decides():
    from scp_ray.tune.importance import parameter_importance

    space = [{"key": "pr_c", "kind": "float", "low": 0.001, "high": 1.0, "log": True}, SEARCH["space"][1]]
    settings = [{"pr_c": 10 ** (-3 * at / 49), "layer": -1 - at % 2, "rounds": 3} for at in range(50)]
    costs = [[abs(each["pr_c"] - 0.03), 1.0] for each in settings]
    found = parameter_importance(settings, costs, space)
    assert list(found) == ["pr_c", "layer"]  # what never varies is no parameter
    assert sum(found.values()) == pytest.approx(1)
    assert found["pr_c"] > 0.8
    assert parameter_importance(settings[:49], costs[:49], space) == {}  # the best tenth would be less than five


def test_importance_is_told_with_how_many_configurations_it_is_of(tmp_path):
    """F1 grows and Eodd falls with pr_c, the layers take turns: the best five of fifty have the five largest pr_c."""
    points = {f"c{at}": (0.3 + at / 100, 0.6 - at / 100) for at in range(50)}
    folder = write(tmp_path / "fifty", SEARCH, points)
    shown = "\n".join(trade_offs(load_sweep(folder), show_test=False)["lines"])
    assert "importance of the parameters (PED-ANOVA, the best tenth of 50 configurations against all" in shown
    table = pd.read_csv(folder / "report" / "search-importance.csv")
    assert table["parameter"].tolist() == ["pr_c", "layer"]
    assert table["importance"].iloc[0] > 0.9
    assert table["configurations"].tolist() == [50, 50]
    definition = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(definition | {"arms": definition["arms"][1:]}))
    shown = "\n".join(trade_offs(load_sweep(folder), show_test=False)["lines"])
    assert "importance of the parameters: told from 50 configurations on; there are 49" in shown
    assert not (folder / "report" / "search-importance.csv").exists()
    definition["definition"]["search"] = None
    (folder / "sweep.json").write_text(json.dumps(definition | {"arms": definition["arms"][1:]}))
    assert "importance" not in "\n".join(trade_offs(load_sweep(folder), show_test=False)["lines"])


def test_importance_takes_options_of_a_plug_in_as_parameters():
    from scp_ray.tune.importance import parameter_importance

    settings = [
        {"method": {"name": "mfd", "sigma": 0.08 * at}} if at % 2 else {"method": "vanilla"} for at in range(50)
    ]
    costs = [[0.0 if at % 2 else 1.0 + at] for at in range(50)]
    found = parameter_importance(
        settings, costs, [{"key": "method[mfd].sigma", "kind": "float", "low": 0, "high": 4, "log": False}]
    )
    assert set(found) == {"method", "method[mfd].sigma"}
    assert found["method"] > 0.5
