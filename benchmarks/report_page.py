"""How long the report's page takes to build and to open, and how large it is.

Run: python -m benchmarks.report_page [--arms N] [--seeds N] [--rounds N] [--repeats N] [--keep DIR]
A ledger of made-up numbers, with evidence: by default 200 arms x 5 seeds, 6 rounds each, round 0 among them. The page
is built in a fresh process (imports counted apart), then opened from disk in a fresh headless Chromium, if there is
one: seconds from navigation until curves, plane and tables can be used, and of a click on a table's head until the
rows have moved. Beside the wall time stands the CPU's (in the browser: the page's own thread), which a busy machine
does not change. The median over --repeats. Goals: built in under 20 s, under 10 MB, interactive within 2 s.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scp_ray.ledger.evidence import SCHEMA
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.report import fairness_report

CRITERIA = ("snnl", "magnitude", "random", "none")
BUILD = """
import sys, time
start = time.perf_counter(), time.process_time()
from pathlib import Path
from scp_ray.ledger import load_sweep
from scp_ray.report.page.page import write_page
ready = time.perf_counter(), time.process_time()
path = write_page(load_sweep(sys.argv[1]), Path(sys.argv[2]))
done = time.perf_counter(), time.process_time()
print(*(ready[i] - start[i] for i in (0, 1)), *(done[i] - ready[i] for i in (0, 1)), path.stat().st_size)
"""


def plant(root: Path, arms: int, seeds: int, rounds: int) -> Path:
    """A finished sweep of ``arms`` x ``seeds`` trials of ``rounds`` rounds; no predictions, which no page reads."""
    random = np.random.default_rng(0)
    label = random.integers(4, size=200)
    columns = fairness_report(label, label, random.integers(2, size=200), num_classes=4).as_row("val_")
    for kind in ("rounds", "evidence"):
        (root / kind).mkdir(parents=True)
    starts = {
        seed: (0.6 + 0.02 * random.standard_normal(), 0.15 + 0.01 * random.standard_normal()) for seed in range(seeds)
    }
    for seed, start in starts.items():
        folder = root / "bases" / f"base{seed}"
        folder.mkdir(parents=True)
        first = _rows(columns, "", seed, [start], start)
        pq.write_table(pa.Table.from_pylist(first), folder / "rounds.parquet")
        pq.write_table(_evidence(first, random), folder / "evidence.parquet")
    entries = []
    for arm in range(arms):
        settings = {"criterion": CRITERIA[arm % 4], "pr_c": round(0.01 + 0.002 * (arm // 4), 3), "layer": -1 - arm % 7}
        drift = random.standard_normal(2) * (0.006, 0.006)
        trials = []
        for seed, start in starts.items():
            trial_id = f"{arm:08x}{seed:08x}"
            steps = drift + 0.006 * random.standard_normal((rounds - 1, 2))
            points = [start, *map(tuple, np.abs(np.array(start) + steps.cumsum(0)))]
            rows = _rows(columns, trial_id, seed, points, start)
            pq.write_table(pa.Table.from_pylist(rows), root / "rounds" / f"{trial_id}.parquet")
            pq.write_table(_evidence(rows[1:], random), root / "evidence" / f"{trial_id}.parquet")
            trials.append({"seed": seed, "trial_id": trial_id, "base_id": f"base{seed}", "vanilla_id": f"base{seed}"})
        stop = {"th_acc": 0.03, "th_fair": 0.0, "gap": "eodd", "enforce": False}
        config = {"rounds": rounds - 1, "select": "best_val_fate", "stop": stop, **settings}
        name = ", ".join(f"{key}={value}" for key, value in settings.items())
        entries.append({"label": name, "settings": settings, "config": config, "trials": trials})
    definition = {"format": 1, "name": root.name, "arms": entries, "data": {}, "test_reveals": 0}
    (root / "sweep.json").write_text(json.dumps(definition))
    return root


def _rows(
    columns: dict[str, Any], trial_id: str, seed: int, points: list[tuple[float, float]], start: tuple[float, float]
) -> list[dict[str, Any]]:
    found = []
    for index, (f1, gap) in enumerate(points):
        row = {
            "trial_id": trial_id,
            "base_id": f"base{seed}",
            "vanilla_id": f"base{seed}",
            "round": index,
            "seed": seed,
        }
        row |= columns | {"num_classes": 4, "val_n": 1000, "val_f1": f1, "val_eodd": gap, "val_eopp0": gap / 2}
        row |= {"val_eopp1": gap * 1.5, "val_eodd_sum_abs": gap * 1.1, "val_balanced_accuracy": f1}
        row |= {
            f"val_fate_{name}_{against}": f1 / start[0] - gap / start[1]
            for name in GAPS
            for against in ("base", "vanilla")
        }
        row |= {"channels_left": 512 - 10 * index, "seconds": 30.0, "device": "cpu", "threads": 4}
        row |= {"stop_reason": "", "stopped": False, "channels_pruned": [1, 2, 3]}
        found.append(row)
    return found


def _evidence(rows: list[dict[str, Any]], random: np.random.Generator) -> pa.Table:
    found = []
    for row in rows:
        for metric in ("f1", *GAPS, "eodd_sum_abs"):
            observed, floor = row[f"val_{metric}"], 0.06 + 0.005 * random.standard_normal()
            null = {"floor_mean": floor, "floor_low": floor - 0.02, "floor_high": floor + 0.03, "p": 0.001}
            null |= {"excess": observed - floor}
            entry = {"round": row["round"], "split": "val", "metric": metric, "observed": observed}
            entry |= {"standard_error": 0.02, "low": observed - 0.04, "high": observed + 0.04, "permutations": 1000}
            found.append(
                entry | (null if metric != "f1" else {}) | {"draws": 1000, "seed": 1, "n": 1000, "units": 1000}
            )
    return pa.Table.from_pylist(found, schema=SCHEMA)


def build(root: Path, folder: Path) -> list[float]:
    """Seconds and CPU seconds of importing, then of building, then bytes."""
    command = [sys.executable, "-c", BUILD, str(root), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in run.stdout.split()]


def open_page(path: Path, chromium: str) -> list[float]:
    """Seconds until the page can be used, the CPU seconds of its thread until then, seconds of sorting a table."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        measures = page.context.new_cdp_session(page)
        measures.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(path.as_uri())  # returns after the load event, before which everything is drawn
        ready = float(page.evaluate("document.documentElement.dataset.ready")) / 1000
        found = {each["name"]: each["value"] for each in measures.send("Performance.getMetrics")["metrics"]}
        sort = "() => { const t = performance.now(); document.querySelector('th:nth-child(4) button').click(); "
        sorted_ms = float(page.evaluate(sort + "document.body.offsetHeight; return performance.now() - t; }"))
        browser.close()
    return [ready, found["TaskDuration"], sorted_ms / 1000]


def main() -> None:
    """Plant, build, open; a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"arms": 200, "seeds": 5, "rounds": 6, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, help="leave ledger and page in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        root = plant(place / "planted", options.arms, options.seeds, options.rounds)
        runs = [build(root, place / "page") for _ in range(options.repeats)]
        imported, imported_cpu, built, built_cpu, size = (
            statistics.median(column) for column in zip(*runs, strict=True)
        )
        print(f"{options.arms} arms x {options.seeds} seeds x {options.rounds} rounds; page {size / 1e6:.2f} MB")
        print(f"{'':<24}{'wall s':>8}{'CPU s':>8}")
        print(f"{'import':<24}{imported:8.2f}{imported_cpu:8.2f}\n{'build':<24}{built:8.2f}{built_cpu:8.2f}")
        chromium = shutil.which("chromium")
        if chromium is None:
            print("no chromium here: not opened")
            return
        opened = [open_page(place / "page" / "index.html", chromium) for _ in range(options.repeats)]
        ready, ready_cpu, sorted_in = (statistics.median(column) for column in zip(*opened, strict=True))
        print(f"{'until it can be used':<24}{ready:8.2f}{ready_cpu:8.2f}\n{'sorting a table':<24}{sorted_in:8.3f}")


if __name__ == "__main__":
    main()
