"""Half an hour of kills: trials, scorers and nodes die at random every 20 s, and every configuration ends up once.

    python -m benchmarks.soak                    30 minutes on a cluster of three nodes within this machine
    python -m benchmarks.soak --minutes 2        a short one

A sweep runs on a real cluster; whenever it is done before the time is up, seeds are added and it goes on. When the
time is up the killing stops, the sweep ends, and its ledger is compared with what was asked for. Exit code 1 where a
configuration is missing, incomplete or there twice.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from ray.cluster_utils import Cluster

from scp_ray.ledger import load_sweep

KILL_EVERY_S = 20.0
SEEDS_AT_ONCE = 10
ARMS = [0.05, 0.1, 0.2]
ROUNDS = 3
NODE = {"num_cpus": 3}  # a trial and its two scorers
SETTINGS = [
    *("trial.dataset.image_size=32", "trial.dataset.train=256", "trial.dataset.val=96", "trial.dataset.test=96"),
    *("trial.criterion={name: snnl, batch_size: 32}", f"trial.rounds={ROUNDS}", "resources.scorers=2"),
    *(f"grid={{pr_c: {ARMS}}}", "resources.device=cpu", "checkpoint_minutes=0.05"),
]


def main() -> int:
    """Run, kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    options = parser.parse_args()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(3):
        cluster.add_node(**NODE)
    try:
        with tempfile.TemporaryDirectory() as out:
            killed, seeds = soak(cluster, Path(out), 60 * options.minutes, random.Random(options.seed))
            faults = compare(Path(out) / "quickstart", seeds)
    finally:
        cluster.shutdown()
    print(
        f"{options.minutes:g} minutes, {len(ARMS) * seeds} trials, killed: {dict(killed)}, faults: {faults or 'none'}"
    )
    return 1 if faults else 0


def soak(cluster: Cluster, out: Path, seconds: float, draw: random.Random) -> tuple[Counter[str], int]:
    """Sweeps of more and more seeds until the time is up; how often what was killed, and how many seeds there are."""
    end, seeds, killed = time.monotonic() + seconds, 0, Counter[str]()
    while time.monotonic() < end:
        seeds += SEEDS_AT_ONCE
        driver = start(cluster, out, seeds)
        next_kill = time.monotonic() + KILL_EVERY_S
        while driver.poll() is None:
            time.sleep(0.2)
            if next_kill <= time.monotonic() < end:
                killed[kill_something(cluster, draw)] += 1
                next_kill += KILL_EVERY_S
        if driver.returncode == 1:  # what was killed too often is named; the same command tries it again
            killed["given up"] += 1
    last = start(cluster, out, seeds)
    if last.wait() != 0:
        raise SystemExit(f"the undisturbed last run ended with {last.returncode}.")
    return killed, seeds


def start(cluster: Cluster, out: Path, seeds: int) -> subprocess.Popen[bytes]:
    """The sweep as a user starts it."""
    words = [sys.executable, "-m", "scp_ray.cli.main", "sweep", "quickstart", "--out", str(out), "--retry-failed"]
    for setting in [*SETTINGS, f"seeds={list(range(seeds))}"]:
        words += ["--set", setting]
    return subprocess.Popen([*words, "--address", cluster.address])


def kill_something(cluster: Cluster, draw: random.Random) -> str:
    """A trial, a scorer or a whole node with what runs on it; a node is replaced. Returns what it was."""
    kind = draw.choice(["trial", "scorer", "node"])
    if kind == "node":
        node = draw.choice(sorted(cluster.worker_nodes, key=lambda each: each.unique_id))
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(**NODE)
        return kind
    name = {"trial": "Trainable", "scorer": "Scor"}[kind]
    found = sorted(pid for pid, title in below(os.getpid()) if title.startswith("ray::") and name in title)
    if not found:
        return f"no {kind} to kill"
    os.kill(draw.choice(found), signal.SIGKILL)
    return kind


def below(ancestor: int) -> Iterator[tuple[int, str]]:
    """Processes that descend from this one, with their titles."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}
    for pid, _, *title in rows:
        above = int(pid)
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor and title:
            yield int(pid), title[0]


def compare(root: Path, seeds: int) -> list[str]:
    """What is wrong with the ledger: every arm and seed is to be there once, with all its rounds."""
    sweep, faults = load_sweep(root), []
    asked = sorted((pr_c, seed) for pr_c in ARMS for seed in range(seeds))
    found = sorted(zip(sweep.trials["pr_c"], sweep.trials["seed"], strict=True))
    if found != asked:
        faults.append(f"{len(asked)} configurations were asked for, {len(found)} are there")
    if len(sweep.bases) != seeds:
        faults.append(f"{seeds} base models were to be trained, {len(sweep.bases)} are there")
    for path in sorted((root / "rounds").glob("*.parquet")):
        rounds: list[Any] = pq.read_table(path, columns=["round"])["round"].to_pylist()
        if rounds != list(range(ROUNDS + 1)):
            faults.append(f"{path.name} holds the rounds {rounds}")
    files = len(list((root / "rounds").glob("*.parquet")))
    if files != len(asked):
        faults.append(f"{files} files of rounds for {len(asked)} configurations")
    if left := sorted(root.glob("failures/*.json")):
        faults.append(f"failures that were never mended: {[path.stem for path in left]}")
    return faults


if __name__ == "__main__":
    sys.exit(main())
