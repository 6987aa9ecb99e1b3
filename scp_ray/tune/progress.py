"""What a person sees while a sweep runs: on a terminal one line that is rewritten, elsewhere a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

from scp_ray.terminal import Line, duration
from scp_ray.tune.chance import chance_warning
from scp_ray.tune.space import Job, Plan


class Console:
    """A Sink that counts finished work and says when the rest will be done."""

    def __init__(self, plan: Plan, stream: TextIO | None = None) -> None:
        self._jobs: dict[str, Job] = {}
        self._line = Line(stream)
        self._left: dict[str, int] = {}  # epochs
        self._total = 0
        self._rounds: dict[str, int] = {}
        self._to_come = 0  # trials of a search that are not chosen yet
        self._finished: set[str] = set()
        self._failed: set[str] = set()
        self._cut: set[str] = set()  # told of: trained in micro-batches
        self._latest = ""
        self._started = time.monotonic()
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="scp_ray progress", daemon=True)
        self.add(plan.to_do, 0)

    def add(self, jobs: Sequence[Job], to_come: int) -> None:
        """More to do; ``to_come`` trials may follow, each taken to be as long as those so far."""
        for job in jobs:
            if job.id not in self._jobs:
                self._jobs[job.id], self._left[job.id], self._rounds[job.id] = job, job.work, job.rounds_done
                self._total += job.work
        self._to_come = to_come

    def open(self, sweep: dict[str, Any]) -> None:
        """The clock of the ETA starts when the workers can start."""
        self._started = time.monotonic()
        self._tell()
        self._ticker.start()

    def grown(self, sweep: dict[str, Any]) -> None:
        """Of new jobs ``add`` is told."""

    def round(self, row: dict[str, Any]) -> None:
        """One row more; one that was there before the sweep started, or comes again, is no new work."""
        job = self._jobs.get(row["trial_id"] or row["base_id"])
        if job is None or job.id in self._finished:
            return
        self._tell_micro_batch(job, row)
        if job.trial is None:
            if warning := chance_warning({job.label: row}):
                self._write(warning, stays=True)
            self._finish(job)
        elif row["round"] > self._rounds[job.id] or not job.config.rounds:
            self._left[job.id] -= job.epochs(row["round"] - self._rounds[job.id])
            self._rounds[job.id] = row["round"]
            if row["round"] >= job.config.rounds or row["stopped"]:
                self._finish(job)
        fate = row.get("val_fate_eodd_base")
        score = "" if fate is None or fate != fate else f", FATE {fate:+.3f}"
        self._latest = f"{job.label}: round {row['round']}, F1 {row['val_f1']:.3f}, Eodd {row['val_eodd']:.3f}{score}"

    def failed(self, failure: dict[str, Any]) -> None:
        """Named at once, on a line of its own."""
        self._failed.add(failure["id"])
        self._left[failure["id"]] = 0
        self._write(f"failed: {failure['label']}: {failure['reason']}", stays=True)

    def note(self, line: str) -> None:
        """A line from elsewhere that stays."""
        self._write(line, stays=True)

    def close(self) -> None:
        """The last word."""
        self._closed.set()
        self._tell(last=True)

    def _finish(self, job: Job) -> None:
        self._finished.add(job.id)
        self._left[job.id] = 0

    def _tell_micro_batch(self, job: Job, row: dict[str, Any]) -> None:
        size = row.get("micro_batch")
        if not size or row["from_base"] or job.id in self._cut:
            return
        self._cut.add(job.id)
        plan = job.config.train if job.trial is None else job.config.fine_tune
        self._write(
            f"{job.label}: memory did not take a training batch of {plan.batch_size}, so it was trained {size:.0f} "
            f"images at a time, with the same step (round {row['round']}; column micro_batch).",
            stays=True,
        )

    def _tick(self) -> None:
        while not self._closed.wait(self._line.every_s):
            self._tell()

    def _tell(self, last: bool = False) -> None:
        elapsed, known = time.monotonic() - self._started, sum(self._left.values())
        done = self._total - known
        trials = [job.work for job in list(self._jobs.values()) if job.trial is not None]
        left = known + (self._to_come * sum(trials) / len(trials) if trials else 0)
        more = f" ({self._to_come} or more to come)" if self._to_come and not last else ""
        parts = [f"{len(self._finished)} of {len(self._jobs)} jobs{more} done"]
        if self._failed:
            parts.append(f"{len(self._failed)} failed")
        parts[-1] += f" after {duration(elapsed)}"
        if not last:
            parts.append(f"about {duration(elapsed * left / done)} left" if done else "time left not yet known")
        line = ", ".join(parts)
        self._write(f"{line} | {self._latest}" if self._latest and not last else line, stays=last)

    def _write(self, line: str, *, stays: bool) -> None:
        with self._writing:
            self._line.write(line, stays=stays)
