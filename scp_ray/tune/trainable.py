"""The Ray trial: one step is one round (a base model has one: round 0)."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from ray import tune
from ray.exceptions import RayError

from scp_ray.config import ResolvedTrial
from scp_ray.devices import choose_device, reset_peak_memory
from scp_ray.errors import LedgerError
from scp_ray.ledger import Ledger
from scp_ray.ledger.records import Row, rows_done
from scp_ray.tune import worker
from scp_ray.tune.record import needed_states, record_base, record_trial
from scp_ray.tune.scorers import Scorers
from scp_ray.tune.space import Job, failure_of


@dataclass(frozen=True)
class WorkOrder:
    """What every worker of a sweep has to know; sent once through the object store."""

    root: str
    token: str
    jobs: dict[str, Job]
    threads: int
    device: str
    gpus: float
    checkpoint_s: float
    keep_models: bool
    scorers: int = 0
    gpus_per_scorer: float = 0.0


class SweepTrainable(tune.Trainable):  # type: ignore[misc]
    """Runs the job that its config names and reports each row that the ledger has committed.

    A failure of the job itself (a NaN loss, a bad image) ends it with ``failed``: running it again would fail
    again. A failure of the surroundings (disk, Ray, lost worker) is raised: the job goes back to the queue.
    """

    def setup(self, config: dict[str, Any], order: WorkOrder) -> None:
        """Once per worker process; workers are reused."""
        worker.prepare()
        self._order = order
        self._rows: Iterator[Row] | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another job for the same process. Nothing of the job before is kept but decoded images."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        order, job_id = self._order, config["job"]
        self._rows = None
        worker.reset(order.threads, job_id)
        # of a search the jobs are not known when the order is written: each comes along
        self._job = pickle.loads(config["packed"]) if "packed" in config else order.jobs[job_id]
        self._ledger = Ledger(order.root, token=order.token)

    def step(self) -> dict[str, Any]:
        """One committed row, or why there is none."""
        job = self._job
        try:
            if self._rows is None:
                self._rows = self._start()
            row = next(self._rows, None)
        except (OSError, LedgerError, RayError, torch.AcceleratorError):
            raise  # a broken CUDA context would fail every later job of this process: another one is started
        except Exception as error:  # whatever a plug-in may raise: it is named, kept and does not stop the others
            self._rows = None
            return {"job": job.id, "failed": failure_of(job.label, error), "done": True}
        if row is None:
            return {"job": job.id, "done": True}
        done = job.trial is None or rows_done([row], job.config.rounds)
        if done:
            self._finish()
        return {"job": job.id, "row": pack(row), "done": done}

    def _finish(self) -> None:
        """Let the generator run out: it puts the state of a finished trial in order."""
        rest = list(self._rows or ())
        assert not rest, rest
        self._rows = None
        self._ledger.forget_failure(self._job.id)

    def _start(self) -> Iterator[Row]:
        job, order = self._job, self._order
        # Ray hides no GPU from a worker that asked for none
        wanted = "cpu" if order.device == "auto" and not order.gpus else order.device
        device = choose_device(wanted, given_gpu=order.gpus > 0)
        reset_peak_memory(device)
        if job.trial is None:
            return iter([record_base(job.config, self._ledger, device=device, checkpoint_s=order.checkpoint_s)])
        return self._trial(job.trial, device)

    def _trial(self, trial: ResolvedTrial, device: torch.device) -> Iterator[Row]:
        """The trial's rows; its scorers end with them, or when this generator is closed."""
        order, ledger = self._order, self._ledger
        scorers = Scorers(
            trial.config,
            order.scorers,
            bases=lambda: needed_states(trial.config, ledger),
            threads=order.threads,
            device=order.device,
            gpus=order.gpus_per_scorer,
        )
        try:
            yield from record_trial(
                trial,
                ledger,
                device=device,
                checkpoint_s=order.checkpoint_s,
                keep_model=order.keep_models,
                score=scorers.score,
            )
        finally:
            scorers.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the state to resume from is in the ledger."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see ``save_checkpoint``."""

    def cleanup(self) -> None:
        """Close the generator, so that nothing of the job outlives it."""
        self._rows = None


def pack(row: Row) -> bytes:
    """As Tune cannot look into it: of every number that it can, it keeps statistics for every trial."""
    return json.dumps(row).encode()


def unpack(packed: bytes) -> Row:
    """What ``pack`` made, on its way from our own worker to our own driver."""
    row: Row = json.loads(packed)
    return row
