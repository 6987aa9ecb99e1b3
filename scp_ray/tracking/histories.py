"""Every point of many runs' metrics, in few requests where the store can: a sweep has tens of thousands of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.rest_utils import http_request

_AT_ONCE = 8
# the most runs and points that MLflow's own server takes and gives in one request
_RUNS, _MOST = 100, 25_000
_ROUTE = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"


class Point(NamedTuple):
    """One value of one metric of one run."""

    run_id: str
    metric: str
    step: int
    value: float
    time_s: float


def histories(client: MlflowClient, runs: Sequence[Run]) -> list[Point]:
    """Every point of every metric of the runs. The public interface asks run by run and metric by metric.

    A database is asked for a metric of all runs at once, a server for one of 100 runs, as its own pages do; one that
    does not know that route is asked as all are.
    """
    keys = sorted({key for run in runs for key in run.data.metrics})
    ids = [run.info.run_id for run in runs]
    chunks = [(key, ids[start : start + _RUNS]) for key in keys for start in range(0, len(ids), _RUNS)]
    ask = _bulk(client, chunks[0]) if chunks else None
    if ask is None:
        pairs = [(run.info.run_id, key) for run in runs for key in run.data.metrics]
        return _asked(lambda pair: _one(client, *pair), pairs)
    return _asked(lambda chunk: list(ask(*chunk)), chunks)


def _asked(ask: Callable[[Any], list[Point]], questions: Sequence[Any]) -> list[Point]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [point for points in pool.map(ask, questions) for point in points]


def _one(client: MlflowClient, run_id: str, key: str) -> list[Point]:
    found = client.get_metric_history(run_id, key)
    return [Point(run_id, key, point.step, point.value, point.timestamp / 1000) for point in found]


def _bulk(client: MlflowClient, first: tuple[str, list[str]]) -> Callable[[str, list[str]], Iterator[Point]] | None:
    """How this store is asked for many runs at once; None where it cannot be."""
    store = client._tracking_client.store
    if hasattr(store, "get_metric_history_bulk"):

        def of_database(key: str, ids: list[str]) -> Iterator[Point]:
            for each in store.get_metric_history_bulk(ids, key, _MOST):
                yield Point(each.run_id, key, each.step, each.value, each.timestamp / 1000)

        return of_database
    if not hasattr(store, "get_host_creds") or _answer(store, *first).status_code != 200:
        return None

    def of_server(key: str, ids: list[str]) -> Iterator[Point]:
        answer = _answer(store, key, ids)
        answer.raise_for_status()
        for each in answer.json()["metrics"]:
            yield Point(each["run_id"], key, int(each["step"]), float(each["value"]), int(each["timestamp"]) / 1000)

    return of_server


def _answer(store: Any, key: str, ids: list[str]) -> Any:
    asked = {"run_id": ids, "metric_key": key, "max_results": _MOST}
    return http_request(store.get_host_creds(), _ROUTE, "GET", params=asked, raise_on_status=False)
