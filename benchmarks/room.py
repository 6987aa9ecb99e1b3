"""All figures of docs/performance.md that this machine can measure, and the page's table.

    python -m benchmarks.room                 # what fits a CPU in 15 minutes: make bench
    python -m benchmarks.room --gpu           # the GPU's rows: make bench-gpu
    python -m benchmarks.room --only snnl,starts
    python -m benchmarks.room --page          # only write the table anew from the results that lie there

One JSON a machine under benchmarks/results/, named by the processor or the card; figures that are measured again take
the place of those that were there. A figure that fails is told and leaves the others alone.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.page import write_page
from benchmarks.rows import CPU, GPU, GROWTH, Line

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run, keep, write the page; 1 where a figure failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--only", default="", help="figures, separated by commas")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    failed = []
    if not options.page:
        commands = list(dict.fromkeys(row.module for row in (GPU if options.gpu else CPU)))
        commands += [] if options.gpu else GROWTH
        only = [name for name in options.only.split(",") if name]
        for command in (each for each in commands if not only or each.split()[0] in only):
            started = time.perf_counter()
            print(f"{command} ...", end=" ", file=sys.stderr, flush=True)
            lines = run(command)
            print(f"{time.perf_counter() - started:.0f} s" if lines else "failed", file=sys.stderr)
            if lines:
                keep(command, lines, gpu=options.gpu)
            else:
                failed.append(command)
    write_page(results(), ROOT / "docs" / "performance.md")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def run(command: str) -> list[Line]:
    """The JSON lines of one figure; none where it failed."""
    module, *arguments = command.split()
    whole = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(whole, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return [] if done.returncode else [json.loads(line) for line in done.stdout.splitlines()]


def keep(command: str, lines: list[Line], *, gpu: bool) -> None:
    """Add to the machine's file, under the command."""
    machine = str(lines[0]["device"])
    path = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"
    known: Line = (
        json.loads(path.read_text(encoding="utf-8"))
        if path.exists()
        else {"machine": machine, "gpu": gpu, "figures": {}}
    )
    known["figures"][command] = {"date": time.strftime("%Y-%m-%d"), "lines": lines}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def results() -> list[Line]:
    """Of every machine that has measured something."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


if __name__ == "__main__":
    sys.exit(main())
