"""What a trial costs beside its work: a sweep of trials that only copy round 0 from one base model.

python -m benchmarks.trials             # 1,000 trials on two workers: seconds, and the driver's memory by trial
python -m benchmarks.trials --trials 20
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.measure import arguments, tell

EVERY_S = 0.2


def main() -> None:
    """Run the sweep and watch it from outside."""
    options = arguments(main.__doc__ or "", trials=1000, workers=2)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        (out / "space.yaml").write_text(yaml.safe_dump(space(options.trials)))
        command = [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(out / "space.yaml"), "--out", str(out)]
        command += ["--json", "--set", f"resources.cpus_per_trial={cpus_each(options.workers)}"]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
            watched = watch(driver, out / "nothing" / "rounds")
            assert driver.stdout is not None
            summary = json.loads(driver.stdout.read())
        seconds = time.perf_counter() - began
    assert summary["finished"] == options.trials + 1, summary
    tell(trials=options.trials, command_s=round(seconds, 1), **numbers(watched, options.trials))


def space(trials: int) -> dict[str, Any]:
    """So many fine-tuning rates, and no round to use them in: one base model, no work."""
    tiny = {"name": "synthetic", "image_size": 32, "train": 32, "val": 16, "test": 16}
    plan = {"epochs": 1, "batch_size": 8, "lr": 0.01, "augment": "none"}
    return {
        "name": "nothing",
        "trial": {"dataset": tiny, "backbone": "tiny", "pr_c": 0.1, "rounds": 0, "train": plan, "fine_tune": {**plan}},
        "grid": {"fine_tune.lr": [round(1e-6 * (index + 1), 7) for index in range(trials)]},
        "seeds": [0],
        "resources": {"device": "cpu", "cpus_per_trial": 1},
    }


def cpus_each(workers: int) -> int:
    """CPUs of a trial, for so many of them at a time on this machine."""
    import os

    return max(1, (os.cpu_count() or 1) // workers)


def watch(driver: subprocess.Popen[str], rounds: Path) -> list[tuple[float, int, float]]:
    """(seconds, trials committed, driver's resident kB), now and then until it ends."""
    seen: list[tuple[float, int, float]] = []
    status = Path(f"/proc/{driver.pid}/status")
    while driver.poll() is None:
        lines = status.read_text().splitlines() if status.exists() else []
        resident = next((line.split()[1] for line in lines if line.startswith("VmRSS:")), None)
        if resident is not None:
            done = sum(1 for path in rounds.glob("*.parquet")) if rounds.exists() else 0
            seen.append((time.perf_counter(), done, float(resident)))
        time.sleep(EVERY_S)
    return seen


def numbers(watched: list[tuple[float, int, float]], trials: int) -> dict[str, float]:
    """From the first trial to the last; memory from a tenth of the trials on, when everything is imported."""
    under_way = [(when, done, kb) for when, done, kb in watched if done > 0]
    first, last = under_way[0], next(point for point in under_way if point[1] == under_way[-1][1])
    steady = [(done, kb) for _, done, kb in under_way if trials / 10 <= done < trials]
    halves = [part for part in (steady[: len(steady) // 2], steady[len(steady) // 2 :]) if len(part) > 1]
    return {
        "trials_s": round(last[0] - first[0], 1),
        "driver_kb_per_trial": _slope(steady),
        "driver_kb_per_trial_first_half": _slope(halves[0] if halves else []),
        "driver_kb_per_trial_second_half": _slope(halves[-1] if halves else []),
    }


def _slope(points: list[tuple[int, float]]) -> float:
    done = np.array([each[0] for each in points], dtype=float)
    if len(points) < 2 or np.ptp(done) == 0:
        return float("nan")
    return round(float(np.polyfit(done, [each[1] for each in points], 1)[0]), 1)


if __name__ == "__main__":
    main()
