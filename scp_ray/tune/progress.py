"""What a person sees while a sweep runs: on a terminal one line that is rewritten, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from scp_ray.tune.space import Job, Plan

PLAIN_LINE_EVERY_S = 30.0


class Console:
    """A Sink that counts finished work and says when the rest will be done."""

    def __init__(self, plan: Plan, stream: TextIO | None = None) -> None:
        self._jobs: dict[str, Job] = plan.jobs
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._total = sum(job.epochs for job in plan.to_do)
        self._work_done = 0.0
        self._finished: set[str] = set()
        self._failed: set[str] = set()
        self._latest = ""
        self._started = self._told = time.monotonic()

    def open(self, sweep: dict[str, Any]) -> None:
        """The clock of the ETA starts when the workers can start."""
        self._started = self._told = time.monotonic()

    def round(self, row: dict[str, Any]) -> None:
        """One row more."""
        job = self._jobs.get(row["trial_id"] or row["base_id"])
        if job is None:
            return
        if job.trial is None:
            self._warn_at_chance(job, row)
            self._work_done += job.epochs
            self._finished.add(job.id)
        elif not row["from_base"]:
            self._work_done += job.config.fine_tune.epochs + 1
        if job.trial is not None and (row["round"] >= job.config.rounds or row["stopped"]):
            self._work_done += (job.config.rounds - row["round"]) * (job.config.fine_tune.epochs + 1)
            self._finished.add(job.id)
        fate = row.get("val_fate_eodd_base")
        score = "" if fate is None or fate != fate else f", FATE {fate:+.3f}"
        self._latest = f"{job.label}: round {row['round']}, F1 {row['val_f1']:.3f}, Eodd {row['val_eodd']:.3f}{score}"
        self._tell()

    def _warn_at_chance(self, job: Job, row: dict[str, Any]) -> None:
        chance = 1 / row["num_classes"]
        # two standard errors of a guesser's accuracy on so many images
        doubt = 2 * (chance * (1 - chance) / row["val_n"]) ** 0.5
        if row["val_balanced_accuracy"] <= chance + doubt:
            self._write(
                f"warning: {job.label} is at chance: balanced accuracy {row['val_balanced_accuracy']:.3f}, guessing "
                f"gives {chance:.3f}. A constant classifier has gap 0 and no FATE; train longer "
                "(trial.train.epochs) or with another lr before reading anything into this sweep.",
                final=True,
            )

    def failed(self, failure: dict[str, Any]) -> None:
        """Named at once, on a line of its own."""
        self._failed.add(failure["id"])
        self._work_done += self._jobs[failure["id"]].epochs
        self._write(f"failed: {failure['label']}: {failure['reason']}", final=True)

    def close(self) -> None:
        """The last word."""
        self._tell(final=True)

    def _tell(self, final: bool = False) -> None:
        now = time.monotonic()
        if not self._live and not final and now - self._told < PLAIN_LINE_EVERY_S:
            return
        self._told = now
        elapsed = now - self._started
        left = elapsed * (self._total - self._work_done) / self._work_done if self._work_done else 0.0
        eta = "" if final or not self._work_done else f", about {duration(left)} left"
        failed = f", {len(self._failed)} failed" if self._failed else ""
        share = f"{len(self._finished)} of {len(self._jobs)} jobs done{failed} after {duration(elapsed)}{eta}"
        self._write(f"{share} | {self._latest}" if self._latest and not final else share, final)

    def _write(self, line: str, final: bool = False) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[K{line[:200]}" + ("\n" if final else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
