"""A sweep read back, each arm by its own rules, and the models that stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from scp_ray.errors import LedgerError
from scp_ray.ledger import Ledger, load_sweep
from scp_ray.ledger.load import find_sweep
from scp_ray.ledger.models import prune_models

NAN = float("nan")


def round_rows(trial_id: str, fates: list[float], *, f1: list[float], eodd: list[float], stopped: str = "") -> Any:
    count = len(fates)
    return pa.table(
        {
            "trial_id": [trial_id] * count,
            "round": pa.array(range(count), pa.int64()),
            "val_f1": f1,
            "val_eodd": eodd,
            "val_fate_eodd_base": fates,
            "stop_reason": [""] * (count - 1) + [stopped],
            "stopped": [False] * (count - 1) + [bool(stopped)],
        }
    )


def arm(label: str, settings: dict[str, Any], trials: dict[int, str], **config: Any) -> dict[str, Any]:
    entries = [
        {"seed": seed, "trial_id": trial_id, "base_id": f"base{seed}", "vanilla_id": f"base{seed}"}
        for seed, trial_id in trials.items()
    ]
    stop = {"th_acc": 0.03, "th_fair": 0.0, "gap": "eodd", "enforce": False} | config.pop("stop", {})
    config = {"rounds": 2, "select": "best_val_fate", "stop": stop} | config
    return {"label": label, "settings": settings, "config": config, "trials": entries}


def write_sweep(root: Path, arms: list[dict[str, Any]], rounds: dict[str, Any], failures: list[str] = ()) -> Path:
    for kind in ("rounds", "channels", "bases/base0", "failures"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    (root / "sweep.json").write_text(json.dumps({"name": root.name, "arms": arms}))
    for trial_id, table in rounds.items():
        pq.write_table(table, root / "rounds" / f"{trial_id}.parquet")
    for identifier in failures:
        (root / "failures" / f"{identifier}.json").write_text(json.dumps({"id": identifier, "reason": "the loss"}))
    return root


@pytest.fixture
def sweep(tmp_path):
    """Two arms x two seeds (one done, one half done, one failed, one not begun), and an arm that shares the first."""
    arms = [
        arm("pr_c=0.1", {"pr_c": 0.1}, {0: "aa", 1: "ab"}),
        arm("pr_c=0.2", {"pr_c": 0.2}, {0: "ba", 1: "bb"}),
        arm("pr_c=0.11", {"pr_c": 0.11}, {0: "aa", 1: "ab"}),
    ]
    rounds = {
        "aa": round_rows("aa", [0.0, 0.1, 0.2], f1=[0.5, 0.5, 0.6], eodd=[0.3, 0.27, 0.3]),
        "ab": round_rows("ab", [0.0, -0.1], f1=[0.5, 0.45], eodd=[0.3, 0.3]),
        "ba": round_rows("ba", [0.0], f1=[0.5], eodd=[0.3]),
    }
    root = write_sweep(tmp_path / "results" / "made", arms, rounds, ["ba"])
    channels = {"round": [1, 1], "channel": [0, 1], "score": [0.5, 0.25], "pruned": [False, True]}
    pq.write_table(pa.table(channels), root / "channels" / "aa.parquet")
    pq.write_table(pa.table({"base_id": ["base0"], "val_f1": [0.5]}), root / "bases" / "base0" / "rounds.parquet")
    pq.write_table(pa.table({"id": ["x"], "prediction": [1]}), root / "bases" / "base0" / "predictions.parquet")
    return root


def test_trials_say_how_far_each_arm_and_seed_is(sweep):
    trials = load_sweep(sweep).trials
    columns = ["arm", "pr_c", "seed", "trial_id", "status", "rounds_done", "rounds_asked"]
    assert trials[columns].values.tolist() == [
        ["pr_c=0.1", 0.1, 0, "aa", "done", 2, 2],
        ["pr_c=0.1", 0.1, 1, "ab", "started", 1, 2],
        ["pr_c=0.2", 0.2, 0, "ba", "failed", 0, 2],
        ["pr_c=0.2", 0.2, 1, "bb", "waiting", 0, 2],
        ["pr_c=0.11", 0.11, 0, "aa", "done", 2, 2],
        ["pr_c=0.11", 0.11, 1, "ab", "started", 1, 2],
    ]
    selected = trials["selected_round"].tolist()
    assert selected[:3] == [2, 0, 0]
    assert pd.isna(selected[3])
    assert trials["base_id"].tolist() == ["base0", "base1"] * 3


def test_frames_hold_every_row_once(sweep):
    found = load_sweep(sweep)
    assert found.rounds[["trial_id", "round"]].values.tolist() == [
        *(["aa", 0], ["aa", 1], ["aa", 2]),
        *(["ab", 0], ["ab", 1], ["ba", 0]),
    ]
    assert found.channels[["trial_id", "channel", "pruned"]].values.tolist() == [["aa", 0, False], ["aa", 1, True]]
    assert found.bases["val_f1"].tolist() == [0.5]
    assert found.base_predictions("base0")["prediction"].tolist() == [1]


@pytest.mark.parametrize(
    ("rows", "failures", "config", "expected"),
    [
        (None, ["base0"], {}, ("failed", 0, None)),  # its base model failed
        ([0.0], [], {}, ("started", 0, 0)),
        ([0.0], [], {"rounds": 0}, ("done", 0, 0)),
        ([0.0, 0.1, 0.3], ["t"], {}, ("done", 2, 2)),  # it failed once, and was tried again
        ([0.0, 0.1, 0.3], [], {"rounds": 3}, ("started", 2, 2)),
        ([0.0, 0.1, 0.3], [], {"select": "round:1"}, ("done", 2, 1)),
        ([NAN, NAN, NAN], [], {}, ("done", 2, 0)),
        ([0.0, 0.1], [], {"stopped": "fairness", "rounds": 5}, ("done", 1, 1)),  # its loop ended before
        ([0.0, 0.1], [], {"stopped": "fairness", "rounds": 5, "select": "last"}, ("done", 1, 0)),
        ([0.0, 0.1], [], {"stopped": "asha: place 4 of 4", "rounds": 5}, ("stopped", 1, 1)),
        ([0.0, 0.1], [], {"stopped": "asha: place 4 of 4", "rounds": 1}, ("done", 1, 1)),  # a grid asks for no more
    ],
)
def test_the_standing_of_a_trial(tmp_path, rows, failures, config, expected):
    stopped = config.pop("stopped", "")
    count = len(rows or [])
    eodd = [0.1] * (count - 1) + [0.2]
    tables = {"t": round_rows("t", rows, f1=[0.5] * count, eodd=eodd, stopped=stopped)} if rows else {}
    root = write_sweep(tmp_path, [arm("all", {}, {0: "t"}, **config)], tables, failures)
    (row,) = load_sweep(root).trials.to_dict("records")
    assert (row["status"], row["rounds_done"], None if pd.isna(row["selected_round"]) else row["selected_round"]) == (
        expected
    )


def test_arms_that_share_a_trial_are_each_read_by_their_own_rules(tmp_path):
    """Neither rounds nor a recorded stop rule are part of a trial's identity, but both decide what is selected."""
    rows = round_rows("t", [0.0, -0.1, -0.2, 0.3], f1=[0.5, 0.45, 0.2, 0.2], eodd=[0.4, 0.3, 0.2, 0.1])
    reasons = pa.array(["", "accuracy: fell", "accuracy: fell", "accuracy: fell"])  # by th_acc 0.03, which ran first
    rows = rows.set_column(rows.column_names.index("stop_reason"), "stop_reason", reasons)
    arms = [
        arm("th_acc=0.03", {}, {0: "t"}, rounds=3, select="last"),
        arm("th_acc=0.5", {}, {0: "t"}, rounds=3, select="last", stop={"th_acc": 0.5}),
        arm("th_acc=0.9", {}, {0: "t"}, rounds=3, select="last", stop={"th_acc": 0.9}),
        arm("rounds=3", {}, {0: "t"}, rounds=3),
        arm("rounds=2", {}, {0: "t"}, rounds=2),
    ]
    trials = load_sweep(write_sweep(tmp_path, arms, {"t": rows})).trials
    assert dict(zip(trials["arm"], trials["selected_round"], strict=True)) == {
        "th_acc=0.03": 0,  # F1 fell by 10 % in round 1
        "th_acc=0.5": 1,  # and by 60 % up to round 2
        "th_acc=0.9": 3,
        "rounds=3": 3,
        "rounds=2": 0,
    }


def test_a_plug_in_axis_is_told_by_its_name(tmp_path):
    options = {"name": "snnl", "distance": "cosine"}
    root = write_sweep(tmp_path, [arm("c", {"criterion": options}, {0: "t"}), arm("d", {"criterion": "none"}, {})], {})
    assert load_sweep(root).trials["criterion"].tolist() == ["snnl"]


def test_a_sweep_is_found_in_the_folder_above_it(sweep):
    assert find_sweep(sweep) == sweep
    assert find_sweep(sweep.parent) == sweep
    assert load_sweep(str(sweep.parent)).ledger.root == sweep


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(LedgerError, match=rf"{folder} holds no sweep.*no sweep\.json") as caught:
            find_sweep(folder)
        assert caught.value.exit_code == 2


def test_a_folder_with_several_sweeps_asks_for_one(sweep):
    write_sweep(sweep.parent / "other", [], {})
    with pytest.raises(LedgerError, match=r"several sweeps.*made, .*other"):
        find_sweep(sweep.parent)


def test_a_damaged_table_of_a_sweep_is_named(sweep):
    (sweep / "rounds" / "ab.parquet").write_bytes(b"")
    with pytest.raises(LedgerError, match=r"ab\.parquet"):
        _ = load_sweep(sweep).rounds


def test_models_of_the_front_and_each_arms_best_are_kept(tmp_path):
    points = {  # F1, Eodd and FATE of the selected round
        "aa": (0.9, 0.5, -0.2),  # on the front: the highest F1
        "ab": (0.5, 0.3, 0.0),  # beaten by bb in both, but the best of its arm
        "ba": (0.6, 0.4, -0.1),  # beaten by bb
        "bb": (0.7, 0.1, 0.3),  # on the front: the lowest gap
    }
    arms = [arm("a", {}, {0: "aa", 1: "ab"}), arm("b", {}, {0: "ba", 1: "bb"})]
    tables = {key: round_rows(key, [fate], f1=[f1], eodd=[gap]) for key, (f1, gap, fate) in points.items()}
    ledger = Ledger(write_sweep(tmp_path, arms, tables))
    for key in (*points, "other"):
        ledger.save_model(key, 0, {"weight": torch.zeros(1)})
    prune_models(ledger, "selected")
    assert ledger.models() == ["aa", "ab", "ba", "bb", "other"]
    prune_models(ledger, "front")
    assert set(ledger.models()) - {"other"} == {"aa", "ab", "bb"}
