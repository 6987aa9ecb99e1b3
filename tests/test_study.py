"""Where a search's study lies, and what a killed driver may have left of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from miniature import SPACE, TRIAL

from scp_ray.config import SweepConfig
from scp_ray.errors import ConfigError, LedgerError
from scp_ray.ledger import Ledger, live
from scp_ray.tune.placement import Node
from scp_ray.tune.racing import Measured
from scp_ray.tune.search_sweep import groups_that_fit
from scp_ray.tune.study import Study, open_study

BLOCK: dict[str, Any] = {"objectives": {"val_f1": "max"}, "space": {"pr_c": {"float": [0.02, 0.2]}}, "trials": 3}
POINT = {"pr_c": 0.1}
USER = {"key": "a", "seeds": [0]}


def config(trial: dict[str, Any] | None = None, **changes: Any) -> SweepConfig:
    rest = {key: value for key, value in SPACE.items() if key != "seeds"}
    return SweepConfig.from_dict(rest | {"trial": TRIAL | (trial or {}), "search": BLOCK | changes})


def made(ledger: Ledger, space: SweepConfig) -> Study:
    study = open_study(space, ledger, make=True)
    assert study is not None
    return study


def test_to_look_makes_nothing(tmp_path: Path) -> None:
    assert open_study(config(), Ledger(tmp_path / "s"), make=False) is None
    url = f"sqlite:///{tmp_path}/studies.db"
    assert open_study(config(storage=url), Ledger(tmp_path / "s"), make=False) is None
    assert not (tmp_path / "s").exists()


def test_what_a_killed_driver_left_half_done_is_cleared(tmp_path: Path) -> None:
    """Half a line, and Optuna's lock, which another process would wait 30 s for; the trial before is there."""
    ledger = Ledger(tmp_path)
    made(ledger, config()).add(POINT, USER)
    journal = tmp_path / "optuna-journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"work')
    os.symlink(journal, f"{journal}.lock")
    study = made(ledger, config())
    assert journal.read_bytes() == whole
    study.tell(0, Measured((-0.5,)), {0: Measured((-0.5,))})
    (trial,) = made(ledger, config()).trials
    assert (trial.state.name, trial.value, trial.params) == ("COMPLETE", 0.5, POINT)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"objectives": {"val_f1": "min"}}, "objectives"),
        ({"space": {"pr_c": {"float": [0.02, 0.3]}}}, "space"),
        ({"constraints": {"val_eodd": "<= 0.3"}}, "constraints"),
        ({"sampler": "random"}, "sampler"),
        ({"replicates": {"seeds": [0, 1]}}, "replicates"),
        ({"trial": {"rounds": 1}}, "trial"),
    ],
)
def test_another_search_of_the_same_name_is_refused(changes: dict[str, Any], part: str, tmp_path: Path) -> None:
    made(Ledger(tmp_path), config())
    with pytest.raises(ConfigError, match=f"begun with other values of {part}: "):
        open_study(config(**changes), Ledger(tmp_path), make=True)
    made(Ledger(tmp_path), config(trials=9, warm_start=[POINT]))  # more of the same


def test_any_optuna_url_is_a_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIES", f"sqlite:///{tmp_path}/studies.db")
    space = config(storage="$STUDIES")
    assert open_study(space, Ledger(tmp_path / "s"), make=False) is None
    assert not (tmp_path / "studies.db").exists()  # to look makes nothing
    made(Ledger(tmp_path / "s"), space).add(POINT, USER)
    assert not (tmp_path / "s" / "optuna-journal.log").exists()
    plain = optuna.load_study(study_name="miniature", storage=f"sqlite:///{tmp_path}/studies.db")
    assert [(trial.state.name, trial.params) for trial in plain.trials] == [("RUNNING", POINT)]
    with pytest.raises(ConfigError, match="NOWHERE names an environment variable that is not set"):
        open_study(config(storage="$NOWHERE"), Ledger(tmp_path / "s"), make=True)
    monkeypatch.setenv("STUDIES", "nosuch+hunter2://me@host/db?password=hunter2")  # its driver's name is repeated
    with pytest.raises(LedgerError, match=r"cannot use [$]STUDIES as the search's storage") as refused:
        open_study(space, Ledger(tmp_path / "s"), make=True)
    assert "hunter2" not in str(refused.value)
    with pytest.raises(LedgerError, match="cannot use nosuch://x as the search's storage"):
        open_study(config(storage="nosuch://x"), Ledger(tmp_path / "s"), make=True)


def test_where_dir_is_a_network_mount_it_has_a_copy_after_every_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file in use is in the scratch folder; another machine, with one of its own, goes on with the copy."""
    monkeypatch.setattr(live, "on_network", lambda _: True)
    monkeypatch.setenv("SCP_RAY_SCRATCH", str(tmp_path / "here"))
    ledger = Ledger(tmp_path / "mount" / "miniature")
    made(ledger, config()).add(POINT, USER)
    assert (ledger.root / "optuna-journal.log").read_bytes()
    monkeypatch.setenv("SCP_RAY_SCRATCH", str(tmp_path / "there"))
    (trial,) = made(ledger, config()).trials
    assert (trial.state.name, trial.params) == ("RUNNING", POINT)


def test_how_many_trials_a_cluster_holds() -> None:
    """Two nodes of 4 and 3 CPUs: trials of 2 CPUs, 2 + 1; a trial with a scorer of 1 CPU, 1 + 1."""
    nodes = [Node("a", 4, 0), Node("b", 3, 0)]
    head, scorer = {"CPU": 2.0, "GPU": 0.0}, {"CPU": 1.0, "GPU": 0.0}
    assert groups_that_fit([head], nodes) == 3
    assert groups_that_fit([head, scorer], nodes) == 2
    assert groups_that_fit([{"CPU": 16.0, "GPU": 0.0}], nodes) == 1
