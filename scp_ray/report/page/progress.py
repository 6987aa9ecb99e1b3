"""Where a sweep is: what is done, what failed, and whether somebody is at work on it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from scp_ray.ledger import Sweep
from scp_ray.ledger.lease import living_driver


@dataclass(frozen=True)
class Progress:
    """Counts of trials and rounds; arms that share a trial count it once each, as ``scp-ray status`` does."""

    counts: dict[str, int]  # by status
    rounds_done: int
    rounds_asked: int
    driver: dict[str, Any] | None  # host, pid, heartbeat of the driver that lives
    failures: dict[str, dict[str, Any]]  # by id of trial or base model; of what is still asked for

    @property
    def finished(self) -> bool:
        """Whether nothing is left to come: every trial is done or was stopped by the search."""
        return not self.driver and not sum(self.counts.get(name, 0) for name in ("started", "waiting", "failed"))

    @property
    def words(self) -> str:
        """A sentence or two on it; empty where the sweep is finished."""
        if self.finished:
            return ""
        counted = ", ".join(f"{count:,} {name}" for name, count in self.counts.items() if count)
        done = f"Trials: {counted}; rounds: {self.rounds_done:,} of {self.rounds_asked:,}."
        if not self.driver:
            return f"Not finished, and no driver is at work. {done} The sweep's own command goes on with it."
        ago = max(0, time.time() - self.driver["heartbeat"])
        return (
            f"Still running when this page was made: process {self.driver['pid']} on {self.driver['host']}, last heard "
            f"of {ago:.0f} s before. {done} Make the page again for newer numbers."
        )


def progress_of(sweep: Sweep) -> Progress:
    """Read from the ledger and its lease; nothing is written."""
    trials = sweep.trials
    statuses = ("done", "stopped", "started", "waiting", "failed")
    return Progress(
        counts={name: int((trials["status"] == name).sum()) for name in statuses},
        rounds_done=int(trials["rounds_done"].clip(upper=trials["rounds_asked"]).sum()),
        rounds_asked=int(trials["rounds_asked"].sum()),
        driver=living_driver(sweep.ledger.driver),
        failures=sweep.failures(),
    )
