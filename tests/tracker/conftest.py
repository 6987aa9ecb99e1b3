"""A small sweep's ledger, an MLflow server that it was told to without a fault, and ways to break one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import Proxy, Server
from trackers import begun, content, live, make_ledger
from waiting import wait_for

from scp_ray.ledger import Ledger


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return make_ledger(tmp_path_factory.mktemp("ledger") / "miniature")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def well(ledger: Ledger, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A sweep with which all went well, MLflow told live."""
    sweep, said = begun(ledger, tmp_path_factory.mktemp("well"), "undisturbed"), list[str]()
    told = live(ledger, sweep, server.uri, said)
    wait_for(lambda: told.idle)
    told.close()
    assert said == []
    return sweep


@pytest.fixture(scope="session")
def undisturbed(well: Ledger, server: Server) -> dict[str, Any]:
    """What MLflow holds of it, compared with the ledger by hand."""
    shown = content(server.database, "undisturbed")
    assert len(shown) == 1 + 1 + 2
    assert {run["status"] for run in shown.values()} == {"FINISHED"}
    for path in (well.root / "rounds").iterdir():
        rows, run = well.rounds(path.stem), shown[path.stem]
        points = [(step, value) for key, step, value in run["metrics"] if key == "val_f1"]
        assert points == [(row["round"], row["val_f1"]) for row in rows]
        assert run["params"]["pr_c"] == str(rows[0]["pr_c"])
        assert run["tags"]["scp_ray.rounds_done"] == "2"
    return shown


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
