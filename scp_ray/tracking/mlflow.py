"""MLflow: a parent run per sweep, below it one run per base model and one per trial; metrics at step = round.

Only the driver talks to MLflow, so its database is made once, before any worker could touch it. Rows that a run
already has are left as they are: telling twice changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from scp_ray.ledger import Sweep
from scp_ray.ledger.rows import CIRCUMSTANCES

for _logger in ("mlflow.store.db.utils", "alembic"):
    logging.getLogger(_logger).setLevel(logging.WARNING)  # how a database is made interests nobody

# what says which trial a row is of; these become parameters or tags, not metrics
_NOT_METRICS = {"round", "seed", "k", "pr_c", "layer", "from_base", "stopped", "threads", "time"}
_ID = "scp_ray.id"


class MLflowSink:
    """A Sink that writes to an MLflow tracking store."""

    def __init__(self, uri: str, root: Path) -> None:
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
        self._parent = self._run(sweep_id, sweep["name"], {"scp_ray.commit": str(sweep["commit"])})
        self._trials = dict(_trials(sweep))

    def round(self, row: dict[str, Any]) -> None:
        """One batch: the round's numbers at step = round."""
        key = row["trial_id"] or row["base_id"]
        run_id = self._runs.get(key) or self._begin(key, row)
        if row["round"] not in self._steps.setdefault(run_id, self._logged(run_id)):
            at_ms = int(1000 * row["time"])
            metrics = [Metric(name, value, at_ms, row["round"]) for name, value in _numbers(row)]
            self._client.log_batch(run_id, metrics=metrics)
            self._steps[run_id].add(row["round"])
        rounds = self._trials[key]["rounds"] if key in self._trials else 0
        if row["round"] >= rounds or row.get("stopped"):
            self._client.set_terminated(run_id, "FINISHED")

    def failed(self, failure: dict[str, Any]) -> None:
        """The run, if there is one, is marked as failed and says why."""
        run_id = self._runs.get(failure["id"]) or self._begin(failure["id"], {"seed": None, "method": "base"})
        self._client.set_tag(run_id, "scp_ray.failure", failure["reason"][:5000])
        self._client.set_terminated(run_id, "FAILED")

    def close(self) -> None:
        """The parent run ends; a trial that did not is told as killed, and runs again when the sweep goes on."""
        for run_id in self._runs.values():
            if self._client.get_run(run_id).info.status == "RUNNING":
                self._client.set_terminated(run_id, "KILLED" if run_id != self._parent else "FINISHED")

    def _begin(self, key: str, row: Mapping[str, Any]) -> str:
        trial = self._trials.get(key)
        name = trial["label"] if trial else f"base {row['method']}, seed={row['seed']}"
        tags = {"mlflow.parentRunId": self._parent, "scp_ray.kind": "trial" if trial else "base"}
        run_id = self._run(key, name, tags)
        config = trial["config"] if trial else {"method": row["method"], "seed": row["seed"]}
        params = [Param(name, str(value)[:6000]) for name, value in _flat(config)]
        self._client.log_batch(run_id, params=params[:100])
        return run_id

    def _run(self, key: str, name: str, tags: dict[str, str]) -> str:
        """The run of that id, made where it is missing and set to running."""
        found = self._client.search_runs([self._experiment], f"tags.`{_ID}` = '{key}'", max_results=1)
        if found:
            run: Run = found[0]
            self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            run = self._client.create_run(self._experiment, run_name=name, tags=tags | {_ID: key})
        self._runs[key] = run.info.run_id
        return str(run.info.run_id)

    def _logged(self, run_id: str) -> set[int]:
        return {metric.step for metric in self._client.get_metric_history(run_id, "val_f1")}


def replay(sweep: Sweep, sink: MLflowSink) -> int:
    """Tell a sink everything that the ledger holds; returns the number of rows."""
    sink.open(sweep.definition)
    rows = sweep.bases.to_dict("records") + sweep.rounds.sort_values(["trial_id", "round"]).to_dict("records")
    for row in rows:
        sink.round({str(key): value for key, value in row.items()})
    for key, failure in sweep.ledger.failures().items():
        sink.failed({"id": key} | failure)
    sink.close()
    return len(rows)


def _trials(sweep: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for arm in sweep["arms"]:
        for trial in arm["trials"]:
            config = arm["config"] | {"seed": trial["seed"]}
            label = f"{arm['label']}, seed={trial['seed']}"
            yield trial["trial_id"], {"label": label, "config": config, "rounds": config["rounds"]}


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
