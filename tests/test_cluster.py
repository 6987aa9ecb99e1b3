"""Sweeps on clusters of several nodes, all on this machine, with GPUs that only Ray believes in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import SPACE, TRIAL, same_ledgers
from processes import below, left_after

from scp_ray.ledger import load_sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]

SWEEP = SPACE | {
    "trial": TRIAL
    | {"fine_tune": {"epochs": 6, "batch_size": 8, "lr": 0.005}, "train": TRIAL["train"] | {"epochs": 8}},
    "grid": {"pr_c": [0.02 * step for step in range(1, 13)]},
    "seeds": [0, 1],
    "checkpoint_minutes": 1e-9,
}
GPUS = {"resources.gpus_per_trial": 1}
NODE = {"num_cpus": 2, "num_gpus": 2}

# Loaded by every Python process of the cluster: a worker notes five times a second which GPUs it was given, and where.
WITNESS = """
import os, sys, threading, time
node = next((word.partition("=")[2] for word in sys.argv if word.startswith("--node-id=")), "")
def note():
    with open(os.path.join(os.environ["WITNESS"], str(os.getpid())), "w") as file:
        while True:
            if os.environ.get("CUDA_VISIBLE_DEVICES"):
                file.write(f"{time.time()} {node} {os.environ['CUDA_VISIBLE_DEVICES']}\\n")
                file.flush()
            time.sleep(0.2)
if node:
    threading.Thread(target=note, daemon=True).start()
"""


def command(folder: Path, raw: dict[str, Any], *more: str) -> list[str]:
    space = folder / "space.yaml"
    space.write_text(yaml.safe_dump(raw))
    return [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(space), "--out", str(folder), "--json", *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 trials on one node of two CPUs, without a GPU."""
    out = tmp_path_factory.mktemp("one-node")
    subprocess.run(command(out, SWEEP), check=True, capture_output=True, timeout=1200)
    return out / "miniature"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs and two nodes of two CPUs and two GPUs, watched by the witness."""
    from ray.cluster_utils import Cluster

    (tmp_path / "witness").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITNESS)
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    paths = [str(tmp_path / "site"), *sys.path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    try:
        yield made
    finally:
        made.shutdown()


def test_24_trials_survive_five_lost_nodes(undisturbed: Path, tmp_path: Path, cluster: Any) -> None:
    """Without grace, while base models train, while trials do, and as one has just written; more often than a job may
    lose its worker otherwise. The ledger is that of one node that nobody disturbed."""
    root = tmp_path / "miniature"
    nodes = [cluster.add_node(**NODE), cluster.add_node(**NODE)]
    options = [word for key, value in GPUS.items() for word in ("--set", f"{key}={value}")]
    with (tmp_path / "told").open("w") as told:
        driver = subprocess.Popen(
            command(tmp_path, SWEEP, "--address", cluster.address, *options), stdout=subprocess.PIPE, stderr=told
        )
        family = below(driver.pid)
        moments: list[Callable[[], bool]] = [
            lambda: any(root.glob("state/*/a.json")) and not any(root.glob("rounds/*.parquet")),
            lambda: len(list(root.glob("rounds/*.parquet"))) >= 4,
            lambda: len(list(root.glob("channels/*.parquet"))) >= 8,
            lambda: len(list(root.glob("predictions/*.parquet"))) >= 12,
            lambda: len(list(root.glob("predictions/*.parquet"))) >= 16,
        ]
        try:
            for happened in moments:
                while not happened():
                    assert driver.poll() is None, (tmp_path / "told").read_text()
                    time.sleep(0.02)
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
                nodes.append(cluster.add_node(**NODE))
            summary = json.loads(driver.communicate(timeout=900)[0])
        finally:
            driver.kill()
    assert driver.returncode == 0, (tmp_path / "told").read_text()
    assert summary["failed"] == {}
    assert len(load_sweep(root).trials) == 24
    same_ledgers(undisturbed, root)
    assert left_after(family, 60) == []
    _each_its_own_gpu(tmp_path / "witness")


def _each_its_own_gpu(witness: Path) -> None:
    """No two processes had the same GPU of the same node at the same time; ids repeat from node to node."""
    held: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for file in witness.iterdir():
        spans: dict[tuple[str, str], list[float]] = {}
        for line in file.read_text().splitlines():
            when, node, gpu = line.split()
            spans.setdefault((node, gpu), []).append(float(when))
        for place, times in spans.items():
            held[place].append((min(times), max(times)))
    assert len({node for node, _ in held}) >= 4, "nodes that came later were used too"
    assert {gpu for _, gpu in held} == {"0", "1"}
    for place, spans_there in held.items():
        spans_there.sort()
        for (_, ended), (began, _) in pairwise(spans_there):
            assert ended < began, f"{place} was held by two processes at once"


def test_a_killed_driver_leaves_no_actor_on_a_cluster_that_goes_on(tmp_path: Path, cluster: Any) -> None:
    """The cluster is not the driver's, so its actors do not die with its processes: Ray has to end them."""
    cluster.add_node(**NODE)
    root = tmp_path / "miniature"
    endless = SWEEP["trial"] | {"train": SWEEP["trial"]["train"] | {"epochs": 100_000}}
    driver = subprocess.Popen(
        command(tmp_path, SWEEP | {"trial": endless}, "--address", cluster.address),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not any(root.glob("state/*/a.json")):
            assert driver.poll() is None
            time.sleep(0.05)
        workers = {each for each in below(os.getpid()) if "Trainable" in _name(each[0])}
        assert workers
    finally:
        driver.kill()
        driver.wait()
    assert left_after(workers, 60) == []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_job_that_kills_its_worker_is_given_up(tmp_path: Path) -> None:
    """kill -9 before anything was saved, like a job that is always out of memory: four times, and no fifth."""
    trial = SWEEP["trial"] | {"train": SWEEP["trial"]["train"] | {"epochs": 100_000}}
    raw = SWEEP | {"trial": trial, "grid": {"pr_c": [0.1]}, "seeds": [0], "checkpoint_minutes": 600}
    driver = subprocess.Popen(command(tmp_path, raw), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    killed: set[tuple[int, str]] = set()
    try:
        while driver.poll() is None:
            for worker in {each for each in below(driver.pid) if "Trainable.train" in _name(each[0])} - killed:
                os.kill(worker[0], 9)
                killed.add(worker)
            time.sleep(0.05)
        summary = json.loads(driver.communicate()[0])
    finally:
        driver.kill()
    assert driver.returncode == 1
    assert len(killed) == 4
    reasons = sorted(summary["failed"].values())
    assert "died (out of memory is the usual cause), 4 times without getting further" in reasons[1]
    assert "its base model" in reasons[0], "the trial that needs it is given up with it"


def test_13_settings_and_5_seeds_train_5_base_models(tmp_path: Path) -> None:
    """65 trials wait for the five; each is trained by one job, and every trial copies its round 0."""
    raw = SWEEP | {
        "trial": TRIAL | {"rounds": 0},
        "grid": {"fine_tune.lr": [0.001 * step for step in range(1, 14)]},
        "seeds": [0, 1, 2, 3, 4],
    }
    answer = subprocess.run(command(tmp_path, raw), check=True, capture_output=True, text=True, timeout=600)
    summary = json.loads(answer.stdout)
    assert (len(summary["to_do"]["bases"]), len(summary["to_do"]["trials"]), summary["finished"]) == (5, 65, 70)
    sweep = load_sweep(tmp_path / "miniature")
    assert len(sweep.bases) == 5
    assert sweep.rounds.groupby("seed")["base_id"].nunique().tolist() == [1, 1, 1, 1, 1]
    assert sweep.rounds.groupby("base_id").size().tolist() == [13] * 5
