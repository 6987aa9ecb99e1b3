from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import f1_score

from scp_ray.errors import ConfigError, LedgerError, SweepHeldError
from scp_ray.ledger import Ledger, lease, load_sweep
from scp_ray.ledger.files import read_json, replace_rounds, write_bytes
from scp_ray.ledger.lease import Lease, holds, living_driver
from scp_ray.ledger.load import find_sweep
from scp_ray.ledger.models import prune_models
from scp_ray.ledger.rows import predictions_table
from scp_ray.ledger.states import States
from scp_ray.loop.stopping import Standing, StopRule, parse_select, select_round, stop_reason
from scp_ray.maths.pareto import pareto_front
from scp_ray.parts import Evaluation, FairnessData, Split

NAN = float("nan")
ROOT = Path(__file__).parents[1]


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def full_disk(monkeypatch):
    """Every fsync from here on finds no space left."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)


# -- files that are complete or absent --------------------------------------------------------------------------------


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


@pytest.mark.parametrize("address", ["s3://bucket/sweeps", "gs://bucket"])
def test_an_address_is_not_taken_for_a_folder(address):
    with pytest.raises(LedgerError, match="local path"):
        Ledger(address)


# -- two generations of state -----------------------------------------------------------------------------------------


def save(states: States, folder: Path, number: int) -> Path:
    """Save a state that holds ``number``; returns the state file that it changed."""
    before = {path: path.read_bytes() for path in folder.glob("*.state")}
    states.save({"round": number, "learner": {"weight": torch.full((3, 2), float(number))}, "means": {"loss": 0.5}})
    changed = [path for path in folder.glob("*.state") if path.read_bytes() != before.get(path)]
    assert len(changed) == 1
    return changed[0]


def loaded(states: States) -> int | None:
    state = states.load()
    if state is None:
        return None
    assert state["learner"]["weight"].tolist() == [[float(state["round"])] * 2] * 3
    assert state["means"] == {"loss": 0.5}
    return state["round"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [flip, truncate, empty, Path.unlink]


def test_the_newest_state_wins_and_two_are_kept(tmp_path):
    states = States(tmp_path)
    assert loaded(states) is None
    for number in (1, 2, 3, 4):
        save(states, tmp_path, number)
        assert loaded(States(tmp_path)) == number
    assert len([*tmp_path.glob("*.state")]) == 2


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("saves", [2, 3, 4])
def test_a_damaged_state_costs_one_generation(tmp_path, damage, saves):
    states = States(tmp_path)
    newest = [save(states, tmp_path, number) for number in range(1, saves + 1)][-1]
    damage(newest)
    assert loaded(states) == saves - 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_file_beside_a_state_may_be_damaged_too(tmp_path, damage):
    states = States(tmp_path)
    save(states, tmp_path, 1)
    newest = save(states, tmp_path, 2)
    for path in tmp_path.glob(f"{newest.stem}.*"):
        if path.suffix != ".state":
            damage(path)
            assert loaded(states) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_two_damaged_states_are_none(tmp_path, damage):
    states = States(tmp_path)
    for path in [save(states, tmp_path, number) for number in (1, 2, 3)][-2:]:
        damage(path)
    assert loaded(states) is None
    save(states, tmp_path, 9)
    assert loaded(states) == 9


def test_a_damaged_state_is_overwritten_before_a_whole_one(tmp_path):
    states = States(tmp_path)
    save(states, tmp_path, 1)
    flip(save(states, tmp_path, 2))
    assert loaded(states) == 1
    flip(save(states, tmp_path, 3))
    assert loaded(states) == 1


def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch):
    states = States(tmp_path)
    save(states, tmp_path, 1)
    save(states, tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(LedgerError, match="No space left"):
            states.save({"round": 3})
    assert loaded(states) == 2


def test_a_kill_between_the_two_files_of_a_generation_leaves_the_state_before(tmp_path, monkeypatch):
    states = States(tmp_path)
    save(states, tmp_path, 1)
    save(states, tmp_path, 2)
    real, files = os.fsync, []

    def die_at_the_second_file(handle: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            files.append(handle)
        if len(files) == 2:
            raise KeyboardInterrupt
        real(handle)

    monkeypatch.setattr(os, "fsync", die_at_the_second_file)
    with suppress(KeyboardInterrupt):
        states.save({"round": 3, "learner": {"weight": torch.full((3, 2), 3.0)}, "means": {"loss": 0.5}})
    monkeypatch.undo()
    assert loaded(states) == (2 if len(files) == 2 else 3)


def test_keep_newest_drops_the_older_generation(tmp_path):
    states = States(tmp_path)
    states.keep_newest()
    kept = [save(states, tmp_path, number) for number in (1, 2, 3)][-1]
    states.keep_newest()
    assert [*tmp_path.glob("*.state")] == [kept]
    assert loaded(states) == 3
    states.remove()
    assert not tmp_path.exists()
    assert loaded(states) is None
    states.remove()


def test_a_state_that_would_execute_something_is_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    states = States(tmp_path)
    states.save({"round": 1, "trap": Trap()})
    with suppress(Exception):
        states.load()
    assert not (tmp_path / "ran").exists()


# -- rounds are replaced, never doubled -------------------------------------------------------------------------------


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


# -- one driver per sweep ---------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from scp_ray.ledger.lease import Lease
with Lease(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process of this host that holds tmp_path/driver.json."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "driver.json")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def driver_file(folder: Path, *, silence_s: float, host: str = "elsewhere", pid: int = 4711) -> Path:
    path = folder / "driver.json"
    path.write_text(json.dumps({"host": host, "pid": pid, "token": "theirs", "heartbeat": time.time() - silence_s}))
    return path


def test_a_living_holder_is_named_and_keeps_the_sweep(tmp_path, holder):
    path = tmp_path / "driver.json"
    before = read_json(path)
    with (
        pytest.raises(SweepHeldError, match=rf"process {holder.pid} on {socket.gethostname()}") as caught,
        Lease(path),
    ):
        pass
    assert caught.value.exit_code == 4
    assert read_json(path)["token"] == before["token"]
    assert living_driver(path)["pid"] == holder.pid
    assert files_below(tmp_path) == {"driver.json"}


def test_a_killed_holder_of_this_host_is_replaced_at_once(tmp_path, holder):
    path = tmp_path / "driver.json"
    theirs = read_json(path)["token"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_json(path)["token"] == theirs
    with Lease(path) as mine:
        assert holds(path, mine.token)
        assert not holds(path, theirs)
        assert read_json(path)["pid"] == os.getpid()
    assert files_below(tmp_path) == set()


def test_a_holder_that_ends_leaves_no_file(tmp_path, holder):
    holder.communicate("")
    assert holder.returncode == 0
    assert files_below(tmp_path) == set()


def test_a_silent_driver_of_another_host_is_replaced(tmp_path):
    path = driver_file(tmp_path, silence_s=61)
    assert living_driver(path) is None
    with Lease(path) as mine:
        assert holds(path, mine.token)


def test_a_driver_of_another_host_that_was_heard_of_lately_is_not(tmp_path):
    path = driver_file(tmp_path, silence_s=30)
    before = path.read_bytes()
    with pytest.raises(SweepHeldError, match="process 4711 on elsewhere"), Lease(path):
        pass
    assert path.read_bytes() == before


def test_a_silent_driver_of_this_host_is_replaced_though_its_number_is_in_use(tmp_path):
    path = driver_file(tmp_path, silence_s=61, host=socket.gethostname(), pid=os.getppid())
    with Lease(path) as mine:
        assert holds(path, mine.token)


def test_of_two_drivers_that_start_together_only_one_believes_it_holds_the_sweep(tmp_path):
    path = tmp_path / "driver.json"
    rival, tried = Lease(path), []

    class Slow(Lease):
        def _content(self) -> dict[str, Any]:
            """While this driver makes its file, another one comes."""
            if not tried:
                tried.append(True)
                with suppress(SweepHeldError):
                    rival.__enter__()
            return super()._content()

    believers = []
    with suppress(SweepHeldError), Slow(path) as slow:
        believers.append(slow.token)
    if rival._thread.is_alive():
        believers.append(rival.token)
        rival.__exit__()
    assert tried
    assert len(believers) == 1


def test_the_heartbeat_goes_on_while_the_lease_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.01)
    path = tmp_path / "driver.json"
    with Lease(path):
        first = read_json(path)["heartbeat"]
        for _ in range(3000):
            if read_json(path)["heartbeat"] > first:
                break
            time.sleep(0.01)
        else:
            pytest.fail("the heartbeat stands still")


def test_a_lease_that_was_lost_is_not_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "driver.json"
    with Lease(path) as lost:
        theirs = driver_file(tmp_path, silence_s=0).read_bytes()
        monkeypatch.setattr(lease, "HEARTBEAT_S", 0.0)
        end = threading.Timer(5, lost._stop.set)  # for a heartbeat that would go on for ever
        end.start()
        lost._beat()
        end.cancel()
        assert path.read_bytes() == theirs
    assert path.read_bytes() == theirs


def test_nothing_is_committed_for_a_driver_that_lost_the_sweep(tmp_path):
    driver_file(tmp_path, silence_s=0)
    Ledger(tmp_path).check_lease()
    mine = Ledger(tmp_path, token="mine")
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.check_lease()
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.start_trial("t", {"round": 0, "stopped": False})
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.save_model("t", 0, {"weight": torch.zeros(1)})
    assert files_below(tmp_path) == {"driver.json"}
    Ledger(tmp_path, token="theirs").start_trial("t", {"round": 0, "stopped": False})
    assert files_below(tmp_path) == {"driver.json", "rounds/t.parquet"}
    (tmp_path / "driver.json").unlink()
    with pytest.raises(LedgerError, match="no longer holds"):
        mine.check_lease()


# -- a sweep read back ------------------------------------------------------------------------------------------------


def round_rows(trial_id: str, fates: list[float], *, f1: list[float], eodd: list[float], stopped: bool = False) -> Any:
    count = len(fates)
    return pa.table(
        {
            "trial_id": [trial_id] * count,
            "round": pa.array(range(count), pa.int64()),
            "val_f1": f1,
            "val_eodd": eodd,
            "val_fate_eodd_base": fates,
            "stop_reason": [""] * (count - 1) + ["fairness"] if stopped else [""] * count,
            "stopped": [False] * (count - 1) + [stopped],
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
        ([0.0, 0.1], [], {"stopped": True, "rounds": 5}, ("done", 1, 1)),  # its loop ended before
        ([0.0, 0.1], [], {"stopped": True, "rounds": 5, "select": "last"}, ("done", 1, 0)),
    ],
)
def test_the_standing_of_a_trial(tmp_path, rows, failures, config, expected):
    stopped = config.pop("stopped", False)
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


# -- predictions ------------------------------------------------------------------------------------------------------


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


# -- when the loop stops, and which round speaks for a trial ----------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "fates", "stopped_at", "expected"),
    [
        ("best_val_fate", [0.0, 0.1, 0.3, 0.2], None, 2),
        ("best_val_fate", [0.0, 0.3, 0.3], None, 1),
        ("best_val_fate", [0.0, -0.1, -0.2], None, 0),
        ("best_val_fate", [0.0, 0.0, 0.0], None, 0),
        ("best_val_fate", [0.0, NAN, 0.2], None, 2),
        ("best_val_fate", [0.0, NAN, -0.2], None, 0),
        ("best_val_fate", [NAN, NAN], None, 0),
        ("best_val_fate", [0.0, 0.1, 0.3], 1, 2),
        ("best_val_fate", [0.0], None, 0),
        ("round:0", [0.0, 0.1], None, 0),
        ("round:2", [0.0, 0.1, 0.2, 0.3], None, 2),
        ("round:9", [0.0, 0.1, 0.2], None, 2),
        ("last", [0.0, 0.3, 0.1], None, 2),
        ("last", [0.0, 0.3, 0.1], 2, 1),
        ("last", [0.0, 0.3, 0.1], 1, 0),
        ("last", [0.0], None, 0),
    ],
)
def test_select_round(rule, fates, stopped_at, expected):
    reasons = ["fairness" if stopped_at is not None and index >= stopped_at else "" for index in range(len(fates))]
    assert select_round(rule, fates, reasons) == expected


def test_last_is_the_round_before_the_first_stop_though_later_ones_are_fine():
    assert select_round("last", [0.0, 0.1, 0.2, 0.3], ["", "", "accuracy", ""]) == 1


@pytest.mark.parametrize(
    "rule", ["best", "round", "round:", "round:-1", "round:1.5", "round:x", "round:1 ", "LAST", ""]
)
def test_a_rule_that_selects_nothing_is_refused(rule):
    with pytest.raises(ConfigError, match=r"select: got .*'best_val_fate', 'last' and 'round:n'"):
        parse_select(rule)


@pytest.mark.parametrize(
    ("first", "before", "now", "rule", "expected"),
    [
        # (F1_0 - F1_t) / F1_0 > th_acc, on numbers that a float holds exactly
        ((0.5, 0.9), (0.5, 0.9), (0.25, 0.1), {"th_acc": 0.5}, ""),
        ((0.5, 0.9), (0.5, 0.9), (0.2499, 0.1), {"th_acc": 0.5}, "accuracy"),
        ((0.5, 0.9), (0.25, 0.9), (0.249, 0.1), {"th_acc": 0.5}, "accuracy"),  # against round 0, not the one before
        ((0.5, 0.9), (0.9, 0.9), (0.5, 0.1), {"th_acc": 0.0}, ""),
        ((0.5, 0.9), (0.9, 0.9), (0.499, 0.1), {"th_acc": 0.0}, "accuracy"),
        ((0.5, 0.9), (0.5, 0.9), (0.9, 0.1), {"th_acc": 0.0}, ""),
        ((0.0, 0.9), (0.0, 0.9), (0.0, 0.1), {"th_acc": 0.0}, ""),
        # FC_{t-1} - FC_t < th_fair
        ((0.5, 0.25), (0.5, 0.25), (0.5, 0.25), {"th_fair": 0.0}, ""),
        ((0.5, 0.25), (0.5, 0.25), (0.5, 0.2501), {"th_fair": 0.0}, "fairness"),
        ((0.5, 0.5), (0.5, 0.5), (0.5, 0.375), {"th_fair": 0.125}, ""),
        ((0.5, 0.5), (0.5, 0.5), (0.5, 0.376), {"th_fair": 0.125}, "fairness"),
        ((0.5, 0.1), (0.5, 0.5), (0.5, 0.3), {"th_fair": 0.0}, ""),  # against the round before, not round 0
        ((0.5, 0.25), (0.5, 0.25), (0.5, 0.5), {"th_fair": -0.25}, ""),
        # both, and the undefined
        ((0.5, 0.1), (0.5, 0.1), (0.1, 0.2), {}, "accuracy"),
        ((0.5, NAN), (0.5, NAN), (0.5, 0.9), {}, ""),
        ((0.5, 0.1), (0.5, 0.1), (0.5, NAN), {}, ""),
        ((NAN, 0.5), (0.5, 0.5), (0.1, 0.4), {}, ""),
        ((0.5, 0.5), (0.5, 0.5), (NAN, 0.4), {}, ""),
        ((0.5, 0.5), (0.5, 0.5), (NAN, 0.6), {}, "fairness"),
    ],
)
@pytest.mark.parametrize("enforce", [False, True])
def test_stop_reason(first, before, now, rule, expected, enforce):
    reason = stop_reason(Standing(*first), Standing(*before), Standing(*now), StopRule(**rule, enforce=enforce))
    assert reason.partition(":")[0] == expected


def test_the_stop_rule_stands_at_the_papers_thresholds():
    assert StopRule() == StopRule(th_acc=0.03, th_fair=0.0, gap="eodd", enforce=False)
    words = stop_reason(
        Standing(0.5, 0.3), Standing(0.5, 0.3), Standing(0.5, 0.31), StopRule(th_fair=0.02, gap="eopp1")
    )
    assert "eopp1 went from 0.3000 to 0.3100" in words
    assert "th_fair 0.02" in words


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0.5, 0.1)], [True]),
        ([(0.5, 0.1), (0.6, 0.2), (0.4, 0.05)], [True, True, True]),
        ([(0.5, 0.1), (0.6, 0.1)], [False, True]),  # the same gap, a better F1
        ([(0.5, 0.1), (0.5, 0.2)], [True, False]),  # the same F1, a smaller gap
        ([(0.5, 0.1), (0.5, 0.1), (0.4, 0.2)], [True, True, False]),  # duplicates stand together
        ([(0.5, 0.1), (NAN, 0.0), (0.9, NAN), (0.4, 0.1)], [True, False, False, False]),
        ([(NAN, NAN)], [False]),
        ([], []),
    ],
)
def test_pareto_front(points, expected):
    gains, costs = [point[0] for point in points], [point[1] for point in points]
    assert pareto_front(gains, costs).tolist() == expected
