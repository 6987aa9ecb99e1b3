"""What a person waits for before anything happens: an import, a list, a sweep of 1,000 trials.

Run: python -m benchmarks.starts [--trials N] [--repeats N]
Whole processes for the first two, beside the bare interpreter; every frame of the sweep, in a process that has pandas
already and has read a sweep before. Goals: 0.2 s, 0.5 s, 2 s.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.measure import arguments, in_turns, tell
from benchmarks.planted_ledger import planted_ledger, read_all


def main() -> None:
    """Processes in turns, then the sweep."""
    options = arguments(__doc__ or "", trials=1000, repeats=7)
    commands = (["-c", "pass"], ["-c", "import scp_ray"], ["-m", "scp_ray.cli.main", "ls"])
    bare, imported, listed = in_turns(*(partial(_run, each) for each in commands), repeats=options.repeats)
    tell(what="start_import", import_s=round(imported, 3), interpreter_s=round(bare, 3), goal=0.2)
    tell(what="start_ls", ls_s=round(listed, 3), interpreter_s=round(bare, 3), goal=0.5)
    with tempfile.TemporaryDirectory() as folder:
        sweep = planted_ledger(Path(folder), options.trials)
        (loading,) = in_turns(lambda: read_all(sweep), repeats=options.repeats)
    tell(what="start_load", trials=options.trials, load_s=round(loading, 3), goal=2)


def _run(arguments: list[str]) -> None:
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
