"""MLflow: a parent run per sweep, below it one run per base model and one per trial; metrics at step = round.

A run is brought to what the ledger says of its trial, whatever it said before, so telling twice changes nothing and
nothing has to be told in order. Only a driver, or ``scp-ray track`` in its place, talks to MLflow.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag

from scp_ray.ledger.records import Row
from scp_ray.places import AnyPath
from scp_ray.tracking.content import STOPPED, Contents, numbers

if TYPE_CHECKING:
    from scp_ray.tracking.artifacts import Attached

for _logger in ("mlflow", "alembic", "urllib3.connectionpool"):
    # what they would say comes as an exception too, and is then told once and without secrets
    logging.getLogger(_logger).setLevel(logging.CRITICAL)

_ID, _SWEEP, _FAILURE, _TOLD = "scp_ray.id", "scp_ray.sweep", "scp_ray.failure", "scp_ray.rounds_done"
_PARENT = "mlflow.parentRunId"
_SQLITE = "sqlite:///"
_MIGRATION_S = 60.0  # making a database takes 2 s


@dataclass
class _Known:
    """What MLflow holds of a run."""

    run_id: str
    status: str
    params: set[str]
    tags: dict[str, str]

    @property
    def told(self) -> int:
        """The last round it was told; -1 where there is none. A tag is written after the batch's metrics."""
        return int(self.tags.get(_TOLD, -1))


class MLflowRuns:
    """The runs of one sweep in an MLflow tracking store. After any error, make another one and open that."""

    def __init__(self, uri: str, root: AnyPath) -> None:
        self._uri, self._root = uri, root
        self._known: dict[str, _Known] = {}  # runs that are going on, by trial or base id
        self._made: set[str] = set()

    def open(self, sweep: dict[str, Any], *, running: bool) -> None:
        """Find or make the experiment and the parent run."""
        self._contents = Contents(sweep)
        with _alone(self._uri):
            self._client = MlflowClient(self._uri)
            found = self._client.get_experiment_by_name(sweep["name"])
            self._experiment = found.experiment_id if found else self._create_experiment(sweep["name"])
        self._sweep_id = f"{sweep['name']}-{sweep['created']:.3f}"
        parent = self._find(f"tags.`{_ID}` = '{self._sweep_id}'")
        self._fresh = parent is None  # then no run below it can be there
        tags = {_ID: self._sweep_id, "scp_ray.commit": str(sweep["commit"])}
        self._parent = parent or self._create(sweep["name"], tags)
        if running:
            self._settle(self._parent, "RUNNING")

    def know(self, sweep: dict[str, Any]) -> None:
        """Arms have come since ``open``."""
        self._contents = Contents(sweep)

    def show(
        self, job_id: str, rows: Sequence[Row], failure: Mapping[str, Any] | None = None, *, running: bool
    ) -> bool:
        """Bring the run of a trial or base model to what the ledger says of it; returns whether it has ended.

        Args:
            rows: all that the ledger holds of it, in order.
            failure: why it failed, where it did: ``label`` and ``reason``.
            running: whether a driver is at work; a run that has not ended is killed where none is.
        """
        run = self._known.get(job_id) or self._look_up(job_id)
        if run is None and not rows and not failure:
            return True
        content = self._contents.of(job_id, rows, failure)
        if run is None:
            tags = {_ID: job_id, _SWEEP: self._sweep_id, "scp_ray.kind": content.kind}
            run = self._create(content.name, tags | {_PARENT: self._parent.run_id})
            self._made.add(job_id)
        self._known[job_id] = run
        status = "FINISHED" if content.done else "FAILED" if failure else "RUNNING" if running else "KILLED"
        failed = {_FAILURE: failure["reason"][:5000]} if failure and status == "FAILED" else {}
        self._tell(run, rows, content.params, content.tags | failed | {_PARENT: self._parent.run_id})
        for tag in {_FAILURE, STOPPED} & run.tags.keys() - (content.tags | failed).keys():  # it went on
            self._client.delete_tag(run.run_id, tag)
            del run.tags[tag]
        self._settle(run, status)
        if status == "RUNNING":
            return False
        del self._known[job_id]
        return True

    def attach(self, attached: Attached) -> None:
        """Files and models of the parent run; what is there as it is now stays."""
        from scp_ray.tracking.artifacts import attach  # torch: a running sweep's tracker does without

        known = attach(self._client, self._uri, self._experiment, self._parent.run_id, self._parent.tags, attached)
        self._parent.tags |= known

    def close(self) -> None:
        """The parent run ends."""
        self._settle(self._parent, "FINISHED")

    def _tell(self, run: _Known, rows: Sequence[Row], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """What it lacks: a batch per round, whose number is written last."""
        new_params = [Param(name, value) for name, value in params.items() if name not in run.params]
        changed = {name: value for name, value in tags.items() if run.tags.get(name) != value}
        new_rows = [row for row in rows if row["round"] > run.told]
        for row in new_rows or ([{}] if new_params or changed else []):
            metrics = [Metric(name, value, int(1000 * row["time"]), row["round"]) for name, value in numbers(row)]
            changed |= {_TOLD: str(row["round"])} if row else {}
            self._client.log_batch(
                run.run_id, metrics, new_params, [RunTag(*tag) for tag in changed.items()], synchronous=True
            )
            run.tags |= changed
            run.params |= {param.key for param in new_params}
            new_params, changed = [], {}

    def _settle(self, run: _Known, status: str) -> None:
        if run.status == status:
            return
        if status == "RUNNING":
            self._client.update_run(run.run_id, status=status)
        else:
            self._client.set_terminated(run.run_id, status)
        run.status = status

    def _create_experiment(self, name: str) -> str:
        artifacts = (self._root / "logs" / "mlflow").as_uri() if self._uri.startswith(_SQLITE) else None
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self._client.create_experiment(name, artifact_location=artifacts, tags=tags))

    def _create(self, name: str, tags: dict[str, str]) -> _Known:
        return _known(self._client.create_run(self._experiment, run_name=name, tags=tags))

    def _look_up(self, job_id: str) -> _Known | None:
        if self._fresh and job_id not in self._made:
            return None
        return self._find(f"tags.`{_ID}` = '{job_id}' and tags.`{_SWEEP}` = '{self._sweep_id}'")

    def _find(self, condition: str) -> _Known | None:
        """The first such run. A later one is of a request that was carried out after it was given up: it goes."""
        found = self._client.search_runs([self._experiment], condition, order_by=["attributes.start_time ASC"])
        for late in found[1:]:
            self._client.delete_run(late.info.run_id)
        return _known(found[0]) if found else None


def _known(run: Run) -> _Known:
    return _Known(str(run.info.run_id), str(run.info.status), set(run.data.params), dict(run.data.tags))


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """One process at a time makes an SQLite database: MLflow's own first users make it all at once, and most fail."""
    if not uri.startswith(_SQLITE):
        yield
        return
    path = Path(uri.removeprefix(_SQLITE).partition("?")[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=_MIGRATION_S):
        yield
