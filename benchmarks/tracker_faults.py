"""How much longer a sweep takes because its MLflow is dead, slow, broken, hanging, or merely there.

Run: python -m benchmarks.tracker_faults [--repeats 3] [--epochs 60] [--modes dead,slow]
Every repeat runs the same sweep (one base model, four trials of three rounds, two at a time) without a tracker and
then once in each mode, so that all meet the same machine. An MLflow server idles beside every one of them, also where
the sweep does not know it, for its start takes a minute of a processor. Each mode is told as a JSON line: the median
over repeats of its seconds over those without a tracker, with the lowest and highest. Faults come when the first round
is there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.mlflow_server import Proxy, Server, free_port

MODES = ("file", "server", "dead", "killed", "stopped", "500", "slow")
# the same command without its tracker: a Sink that hears nothing
SILENT = """
import sys
from unittest.mock import MagicMock
import scp_ray.tracking.apart as apart
apart.Apart = MagicMock()
from scp_ray.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="of each of the rounds: how long the sweep takes")
    parser.add_argument("--modes", default=",".join(MODES), help=f"of {', '.join(MODES)} (default: all)")
    options = parser.parse_args()
    modes = options.modes.split(",")
    if not set(modes) <= set(MODES):
        parser.error(f"--modes takes {', '.join(MODES)}, got {options.modes}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SCP_RAY_STORE"] = str(Path(folder) / "store")
        seconds: dict[str, list[float]] = {mode: [] for mode in ("off", *modes)}
        sweep(Path(folder) / "warm", "off", 1)
        for repeat in range(options.repeats):
            for mode, times in seconds.items():
                times.append(sweep(Path(folder) / f"{mode}-{repeat}", mode, options.epochs))
    for mode in modes:
        ratios = [with_it / without for with_it, without in zip(seconds[mode], seconds["off"], strict=True)]
        told = {"mode": mode, "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
        print(json.dumps({"off_s": statistics.median(seconds["off"]), "repeats": options.repeats, **told}))


def sweep(folder: Path, mode: str, epochs: int) -> float:
    """Seconds of the command from its start to its exit."""
    folder.mkdir()
    (folder / "space.json").write_text(json.dumps(space(epochs)))
    server = Server(folder)
    proxy = Proxy(server.port)
    proxy.delay_s = 5.0 if mode == "slow" else 0.0
    uris = {"off": "", "file": "", "dead": f"http://127.0.0.1:{free_port()}"}
    try:
        settle(server)
        return timed(folder, mode, uris.get(mode, proxy.uri), server, proxy)
    finally:
        proxy.close()
        server.signal(signal.SIGCONT)
        server.kill()


def settle(server: Server) -> None:
    """Wait until the processes of a server have started and are idle: under a twentieth of a core for 5 s."""
    before, used = 0.0, server.cpu_seconds()
    while used - before > 0.25:
        time.sleep(5)
        before, used = used, server.cpu_seconds()


def timed(folder: Path, mode: str, uri: str, server: Server, proxy: Proxy) -> float:
    """Start the command, break what the mode breaks, wait."""
    program = ["-c", SILENT] if mode == "off" else ["-m", "scp_ray.cli.main"]
    command = [sys.executable, *program, "sweep", str(folder / "space.json"), "--out", str(folder)]
    started = time.perf_counter()
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=os.environ | {"MLFLOW_TRACKING_URI": uri})
    while process.poll() is None and not any((folder / "benchmark").glob("rounds/*.parquet")):
        time.sleep(0.05)
    if mode == "killed":
        server.signal(signal.SIGKILL)
    if mode == "stopped":
        server.signal(signal.SIGSTOP)
    proxy.broken = mode == "500"
    if process.wait():
        raise RuntimeError(f"the sweep failed: {(folder / 'stderr').read_text()}")
    return time.perf_counter() - started


def space(epochs: int) -> dict[str, Any]:
    """A search space of small pictures whose length is set by ``epochs``."""
    data = {"name": "synthetic", "image_size": 32, "train": 256, "val": 64, "test": 64}
    trial = {"dataset": data, "backbone": "tiny", "pr_c": 0.1, "rounds": 3}
    trial["train"] = {"epochs": 2, "batch_size": 16, "lr": 0.02}
    trial["fine_tune"] = {"epochs": epochs, "batch_size": 16, "lr": 0.01}
    resources = {"cpus_per_trial": 1, "device": "cpu"}
    return {"name": "benchmark", "trial": trial, "grid": {"pr_c": [0.1, 0.15, 0.2, 0.3]}, "seeds": [0]} | {
        "resources": resources
    }


if __name__ == "__main__":
    main()
