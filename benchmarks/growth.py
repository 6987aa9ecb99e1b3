"""How time and memory grow: of scoring with samples, channels and the batch; of a ledger and a report with trials.

Run: python -m benchmarks.growth [--kinds scoring,ledger,report] [--most N] [--repeats N] [--docs DIR]
Seconds are of CPU time, medians; a line with the exponent of each curve, fitted on logarithms over its upper half,
and with ``--docs`` one log-log figure for each kind there. Scoring is of 8 x 8 maps by one thread, each point a process
of its own; its memory is what that process took beyond what it held before, the maps of a batch included. A report's
seconds are the command's, less those of the smallest ledger.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure import arguments, in_child, tell

START = {"samples": 1024, "channels": 64, "batch": 128}
POINTS = {
    "samples": [512, 1024, 2048, 4096, 8192],
    "channels": [64, 128, 256, 512, 1024],
    "batch": [128, 256, 512, 1024, 2048],
}
TRIALS = [10, 30, 100, 300, 1000]


class Curve(NamedTuple):
    """One measured quantity against one size."""

    kind: str
    size: str
    quantity: str
    x: list[float]
    y: list[float]

    @property
    def exponent(self) -> float:
        """Of a power law through the upper half of the points; NaN where nothing was seen to grow."""
        half = slice(len(self.x) // 2, None)
        x, y = np.log(self.x[half]), np.array(self.y[half])
        return float(np.polyfit(x, np.log(y), 1)[0]) if len(x) > 1 and (y > 0).all() else float("nan")


def main() -> None:
    """Measure each kind, tell its exponents, draw it."""
    if len(sys.argv) == 6 and sys.argv[1] == "--point":
        _score(*map(int, sys.argv[2:]))
        return
    options = arguments(__doc__ or "", kinds="scoring,ledger,report", most=1000, repeats=5, docs="")
    for kind in options.kinds.split(","):
        curves = {"scoring": scoring, "ledger": ledger, "report": report}[kind](options.most, options.repeats)
        for curve in curves:
            tell(what=f"growth_{kind}", size=curve.size, quantity=curve.quantity, x=curve.x,
                 y=[round(value, 5) for value in curve.y], exponent=round(curve.exponent, 3))  # fmt: skip
        if options.docs:
            draw(curves, Path(options.docs) / f"performance-growth-{kind}.png")


def scoring(most: int, repeats: int) -> list[Curve]:
    """Against N in batches of 128, against C of one batch, and against b of one batch."""
    curves = []
    for size, points in POINTS.items():
        kept = [point for point in points if point <= 8 * most]
        seen = [in_child("growth", "--point", *_sizes(size, point), repeats) for point in kept]
        for position, quantity in enumerate(("CPU seconds", "MB")):
            curves.append(Curve("scoring", size, quantity, [*kept], [each[position] for each in seen]))
    return curves


def _sizes(size: str, point: int) -> tuple[int, int, int]:
    samples, channels, batch = (START | {"samples": 128} | {size: point}).values()
    return (max(samples, batch) if size == "batch" else samples), channels, batch


def _score(samples: int, channels: int, batch: int, repeats: int) -> None:
    """Print the median seconds of scoring and the MB it took, the maps of a batch made anew as by a forward pass."""
    import torch

    from scp_ray.devices import peak_memory_mb
    from scp_ray.maths.snnl import snnl_scores

    torch.set_num_threads(1)
    snnl_scores(torch.randn(8, 2, 8, 8), torch.arange(8) % 2)  # what torch loads on first use
    held, times = peak_memory_mb(torch.device("cpu")), []
    for _ in range(repeats):
        times.append(0.0)
        for _ in range(samples // batch):
            maps, group = torch.randn(batch, channels, 8, 8), torch.arange(batch) % 3 // 2
            started = time.process_time()
            snnl_scores(maps, group)
            times[-1] += time.process_time() - started
    print(statistics.median(times), peak_memory_mb(torch.device("cpu")) - held)


def ledger(most: int, repeats: int) -> list[Curve]:
    """Reading every frame of a sweep, and the bytes it has on disk."""
    from benchmarks.planted_ledger import planted_ledger, read_all

    trials = [count for count in TRIALS if count <= most]
    with tempfile.TemporaryDirectory() as folder:
        sweeps = [planted_ledger(Path(folder), count) for count in trials]
        took = cpu_in_turns([partial(read_all, sweep) for sweep in sweeps], repeats)
        sizes = [sum(path.stat().st_size for path in sweep.rglob("*") if path.is_file()) / 1e6 for sweep in sweeps]
    x = [float(count) for count in trials]
    return [Curve("ledger", "trials", "CPU seconds", x, took), Curve("ledger", "trials", "MB on disk", x, sizes)]


def report(most: int, repeats: int) -> list[Curve]:
    """The whole command, run on ledgers in turns, less the smallest one's time; and the bytes it leaves."""
    from benchmarks.planted_ledger import planted_ledger

    trials = [count for count in TRIALS if count <= most]
    with tempfile.TemporaryDirectory() as folder:
        sweeps = [planted_ledger(Path(folder), count) for count in trials]
        took = cpu_in_turns([partial(_report, sweep) for sweep in sweeps], repeats)
        sizes = [sum(path.stat().st_size for path in (sweep / "report").rglob("*")) / 1e6 for sweep in sweeps]
    x, beyond = [float(count) for count in trials[1:]], [each - took[0] for each in took[1:]]
    return [
        Curve("report", "trials", "CPU seconds", x, beyond),
        Curve("report", "trials", "MB on disk", [float(count) for count in trials], sizes),
    ]


def cpu_in_turns(works: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median CPU seconds of each, of this process and those it starts, after one run that does not count."""

    def cpu() -> float:
        told = os.times()
        return told.user + told.system + told.children_user + told.children_system

    times: list[list[float]] = []
    for _ in range(repeats + 1):
        times.append([])
        for work in works:
            started = cpu()
            work()
            times[-1].append(cpu() - started)
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def _report(sweep: Path) -> None:
    command = [sys.executable, "-m", "scp_ray.cli.main", "report", str(sweep), "--json"]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True, stdout=subprocess.DEVNULL)


def draw(curves: list[Curve], path: Path) -> None:
    """One panel a quantity, one line a size, its exponent in the legend."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    quantities = list(dict.fromkeys(curve.quantity for curve in curves))
    figure, panels = pyplot.subplots(1, len(quantities), figsize=(4.4 * len(quantities), 3.6), squeeze=False)
    for panel, quantity in zip(panels[0], quantities, strict=True):
        for curve, mark in zip((each for each in curves if each.quantity == quantity), "osD^", strict=False):
            panel.loglog(curve.x, curve.y, mark + "-", label=f"{curve.size}: exponent {curve.exponent:.2f}")
        sizes = dict.fromkeys(curve.size for curve in curves)
        panel.set_xlabel(", ".join(sizes))
        panel.set_ylabel(quantity)
        panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        panel.yaxis.set_minor_formatter(ticker.NullFormatter())
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        panel.grid(True, which="both", alpha=0.25)
        panel.legend(fontsize=8)
    figure.suptitle(f"Growth: {curves[0].kind}")
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None, "Date": time.strftime("%Y-%m-%d")})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
