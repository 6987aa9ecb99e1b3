"""What Ray, Tune and the ledger cost around the work of a sweep.

    python -m benchmarks.orchestration                    # 30 trials of 10 s, two at a time; three starts of each kind
    python -m benchmarks.orchestration --trials 2 --seconds 0.5 --starts 1

Two lines. ``work``: from the base model's row to the last row of the ledger, over the seconds that the trials
themselves took, shared by two workers. ``start``: from the command to the first step of its first job, over a bare
script that starts Ray and runs one Tune trial that imports torch and torchvision.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.measure import arguments, tell
from scp_ray.config import SweepConfig
from scp_ray.ledger import load_sweep
from scp_ray.signals import below
from scp_ray.trial import Step, run_trial

WORKERS = 2

BARE = """
import sys, time
import ray
from ray import tune
class Trial(tune.Trainable):
    def setup(self, config):
        import torch, torchvision
    def step(self):
        return {"at": time.time(), "done": True}
ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
storage = tune.RunConfig(storage_path=sys.argv[1], verbose=0)
results = tune.Tuner(tune.with_resources(Trial, {"cpu": 1}), run_config=storage).fit()
print("at", results[0].metrics["at"])
ray.shutdown()
"""


def main() -> None:
    """The work first, then the starts in turns."""
    options = arguments(main.__doc__ or "", trials=30, seconds=10.0, starts=3)
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder), options.trials, options.seconds)
    if options.starts:
        pairs = [(start_of_sweep(), start_of_bare()) for _ in range(options.starts)]
        ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
        tell(what="start", sweep_s=round(ours, 2), bare_s=round(bare, 2), ratio=round(ours / bare, 3), n=options.starts)


def work(out: Path, trials: int, seconds: float) -> None:
    """Trials of about so many seconds each, all on one base model."""
    epochs = epochs_of(seconds)
    run_sweep(out, space(trials, epochs))
    sweep = load_sweep(out / "orchestration")
    done = sweep.rounds[sweep.rounds["round"] > 0]
    assert len(done) == trials, len(done)
    elapsed = done["time"].max() - sweep.bases["time"].max()
    ideal = done["seconds"].sum() / min(WORKERS, trials)
    tell(
        what="work",
        trials=trials,
        trial_s=round(done["seconds"].mean(), 2),
        elapsed_s=round(elapsed, 1),
        ideal_s=round(ideal, 1),
        ratio=round(elapsed / ideal, 3),
    )


def space(trials: int, epochs: int) -> dict[str, Any]:
    """One round each, of so many epochs, with fine-tuning rates that differ."""
    plan = {"epochs": 1, "batch_size": 16, "lr": 0.01, "augment": "none"}
    each = max(1, (os.cpu_count() or 1) // WORKERS)
    return {
        "name": "orchestration",
        "trial": {
            "dataset": {"name": "synthetic", "image_size": 32, "train": 96, "val": 64, "test": 64},
            "backbone": "tiny",
            "pr_c": 0.1,
            "rounds": 1,
            "train": plan,
            "fine_tune": plan | {"epochs": epochs},
        },
        "grid": {"fine_tune.lr": [round(0.001 + 1e-6 * index, 6) for index in range(trials)]},
        "seeds": [0],
        "resources": {
            "device": "cpu",
            "cpus_per_trial": each,
            "threads_per_trial": 1,
        },
    }


def epochs_of(seconds: float) -> int:
    """Epochs that take so long, by the time of the second to the fifth."""
    torch.set_num_threads(1)
    trial = SweepConfig.from_dict(space(1, 5)).resolved_arms()[0].trials[0].config
    times = [time.perf_counter() for event in run_trial(trial) if isinstance(event, Step) and event.round]
    return max(1, round(seconds / ((times[-1] - times[0]) / (len(times) - 1))))


def command(out: Path, raw: dict[str, Any]) -> list[str]:
    """``scp-ray sweep`` of it."""
    (out / "space.yaml").write_text(yaml.safe_dump(raw))
    return [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(out / "space.yaml"), "--out", str(out)]


def run_sweep(out: Path, raw: dict[str, Any]) -> None:
    """To its end."""
    subprocess.run(command(out, raw), check=True, stderr=subprocess.DEVNULL)


def start_of_sweep() -> float:
    """Seconds until a worker is inside its first step: Ray names it so."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        with subprocess.Popen(command(Path(folder), space(1, 1000)), stderr=subprocess.DEVNULL) as driver:
            while not _in_step(driver.pid):
                if driver.poll() is not None:
                    raise RuntimeError("the sweep ended before its first step was seen")
                time.sleep(0.02)
            took = time.time() - began
            driver.send_signal(signal.SIGTERM)
        return took


def _in_step(driver: int) -> bool:
    for pid in below(driver):
        with suppress(OSError):  # it has ended since
            if b"Trainable.train" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
    return False


def start_of_bare() -> float:
    """Seconds until the one trial of the bare script is in its step."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        quiet = os.environ | {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        bare = [sys.executable, "-c", BARE, folder]
        told = subprocess.run(bare, check=True, capture_output=True, text=True, env=quiet).stdout
        return float(told.rpartition("at ")[2].split()[0]) - began


if __name__ == "__main__":
    main()
