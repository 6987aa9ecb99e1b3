"""The commands of README and of the pages that nobody is led through by the hand, run on real pictures and servers."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from documents import Reader, blocks, commands
from mlflow_server import Server, free_port
from stores import S3, files_below
from trackers import content

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


def rows_in(folder: Path) -> pd.DataFrame:
    return pd.concat(pd.read_parquet(path) for path in (folder / "rounds").glob("*.parquet"))


def answers(words: list[str], folder: Path) -> bool:
    """Whether such a server comes up; it is ended."""
    port = free_port()
    command = [sys.executable, "-m", *words, "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(120):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(1)
        return False
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_the_readme(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "isic2019_mini"
    example, pairs, checked = Reader(tmp_path).run_all("README.md", DIR=str(data))
    results = tmp_path / "results"
    assert "trials: 4 done; rounds: 8 of 8" in example
    assert (results / "isic2019-mini" / "report" / "index.html").exists()
    assert len(rows_in(results / "isic2019-mini")) == 4 * 3
    assert "validation split, n = 600 images" in pairs
    assert len(rows_in(results / "three-seeds")) == 3 * 4
    assert "1,200 rows listed" in checked
    texts = [block.text for block in blocks("README.md") if block.language == "bash"]
    (ui,) = (words for text in texts for words in commands(text) if words[0] == "mlflow")
    assert answers(ui, tmp_path)


def test_data(shared: Path, tmp_path: Path) -> None:
    (said,) = Reader(tmp_path).run_all("docs/data.md", DIR=str(shared / "data" / "isic2019_mini"))
    assert said.count("1,200 rows listed") == 2
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_planning(tmp_path: Path) -> None:
    (said,) = Reader(tmp_path).run_all("docs/planning.md", SPACE="quickstart")
    assert said.count("8 trials and 2 base models to run") == 2
    assert len(rows_in(tmp_path / "results" / "quickstart")) == 8 * 4


def test_tracking(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        live, _ = Reader(tmp_path).run_all("docs/tracking.md", **{"https://mlflow.example.org": server.uri})
        assert "MLflow" not in live, "nothing is missing"
        told, replayed = content(server.database, "quickstart"), tmp_path / "results" / "quickstart" / "mlflow.db"
        assert len(told) == len(content(replayed, "quickstart")) == 1 + 2 + 8
    finally:
        server.kill()


def test_clusters(s3: S3, tmp_path: Path) -> None:
    out = s3.folder()
    Reader(tmp_path).run_all("docs/clusters.md", **{"SPACE": "quickstart", "s3://bucket/prefix": shlex.quote(str(out))})
    assert sum(name.startswith("quickstart/rounds/") for name in files_below(out)) == 8
