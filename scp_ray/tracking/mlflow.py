"""MLflow: a parent run per sweep, below it one run per base model and one per trial; metrics at step = round.

Only the driver talks to MLflow, so its database is made once, before any worker could touch it. Rows that a run
already has are left as they are: telling twice changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from scp_ray.errors import TrackingError
from scp_ray.ledger import Sink, Sweep
from scp_ray.ledger.rows import CIRCUMSTANCES
from scp_ray.places import AnyPath

for _logger in ("mlflow.store.db.utils", "alembic"):
    logging.getLogger(_logger).setLevel(logging.WARNING)  # how a database is made interests nobody

# what says which trial a row is of; these become parameters or tags, not metrics
_NOT_METRICS = {"round", "seed", "k", "pr_c", "layer", "from_base", "stopped", "threads", "time"}
_ID = "scp_ray.id"


class MLflowSink:
    """A Sink that writes to an MLflow tracking store."""

    def __init__(self, uri: str, root: AnyPath) -> None:
        self._uri, self._root = uri, root
        self._steps: dict[str, set[int]] = {}  # run id -> rounds it already has
        self._runs: dict[str, str] = {}  # trial or base id -> run id

    def open(self, sweep: dict[str, Any]) -> None:
        """Find or make the experiment and the parent run."""
        self._sweep = sweep
        self._client = MlflowClient(self._uri)
        found = self._client.get_experiment_by_name(sweep["name"])
        if found is None:
            artifacts = (self._root / "logs" / "mlflow").as_uri() if self._uri.startswith("sqlite:") else None
            self._experiment: str = self._client.create_experiment(
                sweep["name"], artifact_location=artifacts, tags={"mlflow.experimentKind": "custom_model_development"}
            )
        else:
            self._experiment = found.experiment_id
        sweep_id = f"{sweep['name']}-{sweep['created']:.3f}"
        self._parent = self._run(sweep_id, sweep["name"], {"scp_ray.commit": str(sweep["commit"])}, {})
        self._trials = _trials(sweep)

    def round(self, row: dict[str, Any]) -> None:
        """One batch: the round's numbers at step = round."""
        key, is_base = row["trial_id"] or row["base_id"], not row["trial_id"]
        of = self._trials.get(key) or {"label": f"trial {key}", "config": {}, "rounds": 0}
        if is_base:
            config = {name: row[name] for name in ("dataset", "backbone", "method", "seed")}
            of = {"label": f"base {row['method']}, seed={row['seed']}", "config": config, "rounds": 0}
        run_id = self._runs.get(key) or self._begin(key, of["label"], of["config"], is_base=is_base)
        if row["round"] not in self._steps.setdefault(run_id, self._logged(run_id)):
            at_ms = int(1000 * row["time"])
            metrics = [Metric(name, value, at_ms, row["round"]) for name, value in _numbers(row)]
            self._client.log_batch(run_id, metrics=metrics)
            self._steps[run_id].add(row["round"])
        if row["round"] >= of["rounds"] or row.get("stopped"):
            self._client.set_terminated(run_id, "FINISHED")

    def failed(self, failure: dict[str, Any]) -> None:
        """The run, if there is one, is marked as failed and says why."""
        key, label = failure["id"], failure["label"]
        run_id = self._runs.get(key) or self._begin(key, label, {}, is_base=key not in self._trials)
        self._client.set_tag(run_id, "scp_ray.failure", failure["reason"][:5000])
        self._client.set_terminated(run_id, "FAILED")

    def close(self) -> None:
        """The parent run ends; a trial that did not is told as killed, and runs again when the sweep goes on."""
        for run_id in self._runs.values():
            if self._client.get_run(run_id).info.status == "RUNNING":
                self._client.set_terminated(run_id, "KILLED" if run_id != self._parent else "FINISHED")

    def _begin(self, key: str, label: str, config: Mapping[str, Any], *, is_base: bool) -> str:
        """The run of a trial or base model below the parent."""
        tags = {"mlflow.parentRunId": self._parent, "scp_ray.kind": "base" if is_base else "trial"}
        run_id = self._run(key, label, tags, config)
        for name, value in _changeable(config).items():
            self._client.set_tag(run_id, f"scp_ray.{name}", str(value)[:5000])
        return run_id

    def _run(self, key: str, name: str, tags: dict[str, str], config: Mapping[str, Any]) -> str:
        """The run of that id, made with its parameters where it is missing, and set to running."""
        found = self._client.search_runs([self._experiment], f"tags.`{_ID}` = '{key}'", max_results=1)
        if found:
            run: Run = found[0]
            self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            run = self._client.create_run(self._experiment, run_name=name, tags=tags | {_ID: key})
            changeable = _changeable(config)
            params = [Param(name, str(value)[:6000]) for name, value in _flat(config) if name not in changeable]
            self._client.log_batch(run.info.run_id, params=params[:100])
        self._runs[key] = run.info.run_id
        return str(run.info.run_id)

    def _logged(self, run_id: str) -> set[int]:
        return {metric.step for metric in self._client.get_metric_history(run_id, "val_f1")}


def replay(sweep: Sweep, sink: Sink) -> int:
    """Tell a sink everything that the ledger holds; returns the number of rows. Raises TrackingError."""
    try:
        return _replay(sweep, sink)
    except MlflowException as error:
        raise TrackingError(f"MLflow did not take the ledger: {error}") from error


def _replay(sweep: Sweep, sink: Sink) -> int:
    sink.open(sweep.definition)
    rows = sweep.bases.to_dict("records") + sweep.rounds.sort_values(["trial_id", "round"]).to_dict("records")
    for row in rows:
        sink.round({str(key): value for key, value in row.items()})
    for key, failure in sweep.ledger.failures().items():
        sink.failed({"id": key} | failure)
    sink.close()
    return len(rows)


def _trials(sweep: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Label, configuration and rounds of each trial; one that arms share has the first label and the most rounds."""
    trials: dict[str, dict[str, Any]] = {}
    for arm in sweep["arms"]:
        for trial in arm["trials"]:
            config = arm["config"] | {"seed": trial["seed"]}
            known = trials.setdefault(
                trial["trial_id"], {"label": f"{arm['label']}, seed={trial['seed']}", "config": config, "rounds": 0}
            )
            known["rounds"] = max(known["rounds"], config["rounds"])
    return trials


def _changeable(config: Mapping[str, Any]) -> dict[str, Any]:
    """What may differ when the same trial goes on: MLflow's parameters are for good, so these become tags."""
    flat = dict(_flat(config))
    return {
        name: flat[name] for name in flat if name in ("rounds", "select", "dataset.root") or name.startswith("stop.")
    }


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every finite number of a row but its identity; circumstances under "circumstances/"."""
    for name, value in row.items():
        if isinstance(value, bool | str) or not isinstance(value, int | float) or value != value:
            continue
        if name not in _NOT_METRICS:
            yield (f"circumstances/{name}" if name in CIRCUMSTANCES else name), float(value)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
