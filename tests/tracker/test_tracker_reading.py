"""A sweep read back from MLflow alone: the ledger's own numbers, as far as MLflow holds them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow_server import Proxy, Server, free_port
from trackers import begun

import scp_ray
from scp_ray.errors import LedgerError, TrackingError
from scp_ray.ledger import Ledger, load_sweep
from scp_ray.tracking.replay import replay

WORDS = {"channels_pruned", "stop_reason", "fate_reason", "val_notes", "node", "device", "stopped", "threads"}


@pytest.fixture(scope="module", params=["server", "database"])
def told(request: pytest.FixtureRequest, ledger: Ledger, server: Server, tmp_path_factory: Any) -> tuple[Ledger, str]:
    """A finished sweep and the address of what MLflow holds of it."""
    root = tmp_path_factory.mktemp("told") / "sweep"
    shutil.copytree(ledger.root, root)
    name = f"read-{request.param}"
    (root / "sweep.json").write_text(json.dumps(json.loads((root / "sweep.json").read_text()) | {"name": name}))
    uri = server.uri if request.param == "server" else f"sqlite:///{root / 'mlflow.db'}"
    replay(load_sweep(root), uri)
    return Ledger(root), f"mlflow+{uri}#{name}"


def rounds_of(ledger: Ledger) -> pd.DataFrame:
    """By pandas alone."""
    frame = pd.concat([pd.read_parquet(path) for path in sorted((ledger.root / "rounds").glob("*.parquet"))])
    return frame.sort_values(["trial_id", "round"], ignore_index=True)


def test_rounds_are_the_ledgers_to_the_last_bit(told: tuple[Ledger, str]) -> None:
    """Everything but words, lists and what a row says of time; undefined stays undefined."""
    ledger, address = told
    found, expected = scp_ray.load_sweep(address).rounds, rounds_of(ledger)
    empty = {name for name in expected if expected[name].isna().all()}
    assert set(expected) - set(found) <= WORDS | empty
    assert set(found) <= set(expected) and {"val_f1", "val_eodd", "val_fate_eodd_base", "pr_c", "k"} <= set(found)
    columns = [name for name in expected if name in found and name != "time"]
    pd.testing.assert_frame_equal(found[columns], expected[columns], rtol=0, atol=0, check_dtype=True)
    assert (found["time"] - expected["time"]).abs().max() <= 1e-3, "MLflow keeps milliseconds"


def test_trials_are_the_ledgers(told: tuple[Ledger, str]) -> None:
    ledger, address = told
    found, expected = scp_ray.load_sweep(address).trials, load_sweep(ledger.root).trials
    order = {"by": "trial_id", "ignore_index": True}
    pd.testing.assert_frame_equal(found[list(expected)].sort_values(**order), expected.sort_values(**order))


def test_arms_are_those_of_sweep_json(told: tuple[Ledger, str]) -> None:
    """Label, settings and configuration; the seed is a run's."""
    ledger, address = told
    found = scp_ray.load_sweep(address).arms
    expected = sorted(json.loads(ledger.definition_path.read_text())["arms"], key=lambda arm: arm["label"])
    assert [(arm["label"], arm["settings"]) for arm in found] == [(arm["label"], arm["settings"]) for arm in expected]
    for arm, known in zip(found, expected, strict=True):
        config = _without_empty(known["config"])
        assert {name: arm["config"][name] for name in config} == config


def _without_empty(config: dict[str, Any]) -> dict[str, Any]:
    """MLflow has a parameter per value, so none of a plug-in without options but its name."""
    return {
        name: _without_empty(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if value != {}
    }


def test_runs_that_do_not_name_their_arm_are_refused(told: tuple[Ledger, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As an older version left them."""
    sweep = scp_ray.load_sweep(told[1])
    for run in sweep._runs:
        monkeypatch.delitem(run.data.tags, "scp_ray.arm")
    with pytest.raises(TrackingError, match="Tell them again with scp-ray track DIR"):
        sweep.arms  # noqa: B018


def test_curves_of_trials_compare(told: tuple[Ledger, str]) -> None:
    """The same metrics by the same names in every trial, each at the steps 0, 1, 2 of its rounds."""
    ledger, address = told
    uri, _, name = address.removeprefix("mlflow+").rpartition("#")
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id], "tags.`scp_ray.kind` = 'trial'")
    assert len(runs) == 2
    fates = {tuple(sorted(key for key in run.data.metrics if key.startswith("val_fate_"))) for run in runs}
    assert len(fates) == 1 and "val_fate_eodd_base" in next(iter(fates))
    for run in runs:
        rows = rounds_of(ledger)
        rows = rows[rows["trial_id"] == run.data.tags["scp_ray.id"]]
        curve = client.get_metric_history(run.info.run_id, "val_fate_eodd_base")
        assert [(point.step, point.value) for point in curve] == list(
            zip(rows["round"], rows["val_fate_eodd_base"], strict=True)
        )


def test_what_mlflow_does_not_hold_is_said(told: tuple[Ledger, str]) -> None:
    sweep = scp_ray.load_sweep(told[1])
    for name in ("evidence", "channels", "predictions", "bases", "definition"):
        with pytest.raises(TrackingError, match=f"MLflow does not hold {name} of a sweep; the ledger does"):
            getattr(sweep, name)
    with pytest.raises(AttributeError):
        sweep.evidenec  # noqa: B018


def test_a_sweep_that_goes_on_has_what_is_told(ledger: Ledger, tmp_path: Path) -> None:
    """Bases alone are told: no trial, no rounds."""
    sweep = begun(ledger, tmp_path, "begun")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    replay(load_sweep(sweep.root), uri)
    with pytest.raises(TrackingError, match="begun holds no sweep of that name"):
        scp_ray.load_sweep(f"mlflow+{uri}#begun")


def test_two_sweeps_of_one_name_are_told_apart_by_their_ids(ledger: Ledger, tmp_path: Path) -> None:
    uri, made = f"sqlite:///{tmp_path / 'mlflow.db'}", []
    for created in (1000.25, 2000.5):
        root = tmp_path / str(created)
        shutil.copytree(ledger.root, root)
        definition = json.loads((root / "sweep.json").read_text()) | {"created": created}
        if made:
            definition["arms"] = definition["arms"][:1]
        (root / "sweep.json").write_text(json.dumps(definition))
        if made:
            for other in (root / "rounds").glob("*.parquet"):
                if other.stem != definition["arms"][0]["trials"][0]["trial_id"]:
                    other.unlink()
        replay(load_sweep(root), uri)
        made.append(root)
    with pytest.raises(TrackingError, match=r"several sweeps.*miniature-1000\.250, miniature-2000\.500"):
        scp_ray.load_sweep(f"mlflow+{uri}#miniature")
    assert len(scp_ray.load_sweep(f"mlflow+{uri}#miniature-1000.250").trials) == 2
    assert len(scp_ray.load_sweep(f"mlflow+{uri}#miniature-2000.500").trials) == 1


def test_a_server_that_knows_no_bulk_route_is_asked_one_by_one(
    told: tuple[Ledger, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public interface alone gives the same."""
    from scp_ray.tracking import histories

    expected = scp_ray.load_sweep(told[1]).rounds
    monkeypatch.setattr(histories, "_bulk", lambda client, first: None)
    pd.testing.assert_frame_equal(scp_ray.load_sweep(told[1]).rounds, expected, check_like=True)


@pytest.mark.parametrize("address", ["mlflow+http://127.0.0.1:1", "mlflow+#x", "mlflow+sqlite:///x.db#"])
def test_an_address_in_another_form_is_refused(address: str) -> None:
    with pytest.raises(TrackingError, match="write mlflow\\+URI#EXPERIMENT"):
        scp_ray.load_sweep(address)


def test_nobody_there_is_said_without_the_password(told: tuple[Ledger, str], tmp_path: Path) -> None:
    uri, _, _ = told[1].removeprefix("mlflow+").rpartition("#")
    with pytest.raises(TrackingError, match="has no experiment 'nothing'"):
        scp_ray.load_sweep(f"mlflow+{uri}#nothing")
    with pytest.raises(TrackingError, match="there is no such database"):
        scp_ray.load_sweep(f"mlflow+sqlite:///{tmp_path / 'nothing.db'}#x")
    assert not (tmp_path / "nothing.db").exists()
    with pytest.raises(TrackingError) as caught:
        scp_ray.load_sweep(f"mlflow+http://alice:pa55-word@127.0.0.1:{free_port()}#x")
    assert "pa55-word" not in str(caught.value) and "does not hand out" in str(caught.value)
    with pytest.raises(LedgerError):
        scp_ray.load_sweep(tmp_path)


def test_a_server_that_breaks_is_said(told: tuple[Ledger, str], proxy: Proxy, server: Server) -> None:
    if not told[1].startswith(f"mlflow+{server.uri}"):
        pytest.skip("a database has no proxy")
    sweep = scp_ray.load_sweep(told[1].replace(server.uri, proxy.uri))
    proxy.broken = True
    with pytest.raises(TrackingError, match="does not hand out the sweep"):
        _ = sweep.rounds
