"""A sweep read back from MLflow alone: the rounds of its trials, the numbers that the ledger has."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from scp_ray.errors import TrackingError
from scp_ray.loop.stopping import Standing, StopRule, select_round, stop_reasons
from scp_ray.tracking.content import IDENTITY
from scp_ray.tracking.histories import histories
from scp_ray.tracking.secrets import redacted, shown

T = TypeVar("T")
PREFIX = "mlflow+"
_PAGE = 1000
_SWEEP_ID = re.compile(r"(?P<name>.+)-\d+\.\d{3}")
_WHOLE = {"k", "layer", "num_classes", "channels_left", "val_n", "micro_batch", "eval_batch"}
# what a Sweep has besides rounds and trials
_LEDGER_ALONE = {
    *("bases", "channels", "definition", "evidence", "ledger"),
    *("predictions", "base_predictions", "round_predictions", "base_sparsity"),
}
_STATUS = {"FINISHED": "done", "FAILED": "failed", "RUNNING": "started", "KILLED": "started", "SCHEDULED": "waiting"}


class TrackedSweep:
    """What MLflow holds of a sweep. Its predictions, evidence, channels and base models are in the ledger alone.

    Args:
        uri: of the tracking server or database.
        experiment: the sweep's name; where several have one name, the id that the error lists.

    Raises TrackingError where there is none, or several, or MLflow does not answer.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.name = uri, experiment
        _check_there(uri)
        self._client: MlflowClient = self._asked(lambda: MlflowClient(uri))
        self._runs = self._asked(lambda: self._trial_runs(experiment))

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row per trial and round, from round 0 on: what identifies it, and every metric by its ledger's name.

        A number that is undefined in the ledger is NaN here too. Not in MLflow, and so not here: which channels were
        pruned, and what has words (stop_reason, fate_reason, val_notes, node, device).
        """
        runs = {run.info.run_id: run for run in self._runs}
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for point in self._asked(lambda: histories(self._client, self._runs)):
            row = rows.get((point.run_id, point.step))
            if row is None:
                known = {"round": point.step, "from_base": point.step == 0, "time": point.time_s}
                row = rows[point.run_id, point.step] = _identity(runs[point.run_id]) | known
            row[point.metric.removeprefix("circumstances/")] = point.value
        if not rows:
            return pd.DataFrame()
        found = pd.DataFrame(list(rows.values()))
        found = found.sort_values(["trial_id", "round"], kind="stable", ignore_index=True)
        whole = {name: "int64" for name in _WHOLE & set(found.columns) if found[name].notna().all()}
        return found.astype(whole)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row per trial: arm, the axes' values, ids, status, rounds done, the selected round.

        A trial that several arms share has the row of the first.
        """
        by_trial = dict(list(self.rounds.groupby("trial_id"))) if len(self.rounds) else {}
        return pd.DataFrame([_trial(run, by_trial.get(_tag(run, "id"))) for run in self._runs])

    @cached_property
    def arms(self) -> list[dict[str, Any]]:
        """label, settings and config of each arm that has a run, as far as the runs say: without its data's options.

        An arm all of whose trials are another arm's too has no run of its own, and is not here.
        """
        by_label = {_tag(run, "arm"): run for run in reversed(self._runs)}
        if "" in by_label:
            raise TrackingError(
                f"{redacted(self.uri)}: runs of {self.name!r} do not say which arm they are of: they were told by an "
                "older scp-ray. Tell them again with scp-ray track DIR."
            )
        return [
            {"label": label, "settings": json.loads(_tag(run, "settings") or "{}"), "config": _config(run)}
            for label, run in reversed(by_label.items())
        ]

    def __getattr__(self, name: str) -> NoReturn:
        if name not in _LEDGER_ALONE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise TrackingError(
            f"MLflow does not hold {name} of a sweep; the ledger does. Read it from the sweep's own folder: "
            "scp_ray.load_sweep(DIR). From MLflow alone there are rounds and trials."
        )

    def _trial_runs(self, asked: str) -> list[Run]:
        experiment = self._client.get_experiment_by_name(asked)
        wanted = None
        if experiment is None and (match := _SWEEP_ID.fullmatch(asked)):
            experiment, wanted = self._client.get_experiment_by_name(match["name"]), asked
        if experiment is None:
            known = sorted(each.name for each in self._client.search_experiments())
            raise TrackingError(f"{redacted(self.uri)} has no experiment {asked!r}. Known: {', '.join(known[:50])}.")
        runs = self._all(experiment.experiment_id, "tags.`scp_ray.kind` = 'trial'")
        sweeps = sorted({run.data.tags["scp_ray.sweep"] for run in runs})
        chosen = [sweep for sweep in sweeps if wanted in (None, sweep)]
        if len(chosen) != 1:
            what = "no sweep" if not chosen else "several sweeps"
            listed = f" Name one: {', '.join(sweeps)}." if sweeps else " Has scp-ray track been run?"
            raise TrackingError(
                f"{redacted(self.uri)}: experiment {experiment.name} holds {what} of that name.{listed}"
            )
        mine = [run for run in runs if run.data.tags["scp_ray.sweep"] == chosen[0]]
        return sorted(mine, key=lambda run: (_tag(run, "arm"), int(run.data.params.get("seed", -1)), _tag(run, "id")))

    def _all(self, experiment: str, condition: str) -> list[Run]:
        found, token = [], None
        while True:
            page = self._client.search_runs([experiment], condition, max_results=_PAGE, page_token=token)
            found += list(page)
            token = page.token
            if not token:
                return found

    def _asked(self, ask: Callable[[], T]) -> T:
        """Raises TrackingError where MLflow does not answer."""
        try:
            return ask()
        except (MlflowException, OSError, ValueError) as error:  # a refused request, a broken line, no JSON
            raise TrackingError(
                f"{redacted(self.uri)} does not hand out the sweep {self.name!r}: {shown(error)}"
            ) from None


def load_tracked(address: str) -> TrackedSweep:
    """From ``mlflow+<uri>#<experiment>``. Raises TrackingError."""
    uri, mark, experiment = address.removeprefix(PREFIX).rpartition("#")
    if not mark or not uri or not experiment:
        raise TrackingError(
            f"{redacted(address)}: write mlflow+URI#EXPERIMENT, as in mlflow+http://127.0.0.1:5000#quickstart or "
            "mlflow+sqlite:///results/quickstart/mlflow.db#quickstart."
        )
    return TrackedSweep(uri, experiment)


def _check_there(uri: str) -> None:
    """MLflow makes a database that it is asked to read."""
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("sqlite:///") and not path.is_file():
        raise TrackingError(f"{uri}: there is no such database. Name one that scp-ray track has filled.")


def _tag(run: Run, name: str) -> str:
    return str(run.data.tags.get(f"scp_ray.{name}", ""))


def _identity(run: Run) -> dict[str, Any]:
    """Columns that are the same for all rounds of a trial."""
    tags = {name: _tag(run, name) for name in IDENTITY if f"scp_ray.{name}" in run.data.tags}
    ratio = run.data.params.get("pr_c", "None")
    return {
        "trial_id": _tag(run, "id"),
        **{name: int(value) if name in _WHOLE else value for name, value in tags.items()},
        "seed": int(run.data.params["seed"]),
        "pr_c": float("nan") if ratio == "None" else float(ratio),
    }


def _trial(run: Run, rounds: pd.DataFrame | None) -> dict[str, Any]:
    settings = json.loads(_tag(run, "settings") or "{}")
    row = {"arm": _tag(run, "arm"), **{axis: _named(value) for axis, value in settings.items()}}
    row |= {"seed": int(run.data.params["seed"]), "trial_id": _tag(run, "id")}
    row |= {name: _tag(run, name) for name in ("base_id", "vanilla_id")}
    asked = int(_tag(run, "rounds") or 0)
    whole = rounds is not None and int(rounds["round"].max()) >= asked
    stopped = _tag(run, "stopped_early") and not whole
    status = "stopped" if stopped else _STATUS.get(str(run.info.status), "waiting")
    if rounds is None:
        status = "failed" if status == "failed" else "waiting"
        return row | {"rounds_asked": asked, "status": status, "rounds_done": 0, "selected_round": None}
    rounds = rounds[rounds["round"] <= asked]
    rule = StopRule(
        th_acc=float(_tag(run, "stop.th_acc")),
        th_fair=float(_tag(run, "stop.th_fair")),
        gap=_tag(run, "stop.gap"),  # type: ignore[arg-type]
        enforce=_tag(run, "stop.enforce") == "True",
    )
    standings = [Standing(*pair) for pair in zip(rounds["val_f1"], rounds[f"val_{rule.gap}"], strict=True)]
    column = f"val_fate_{rule.gap}_base"
    fates = list(rounds[column]) if column in rounds else [float("nan")] * len(rounds)
    selected = select_round(_tag(run, "select"), fates, stop_reasons(standings, rule))
    done = int(rounds["round"].max())
    return row | {"rounds_asked": asked, "status": status, "rounds_done": done, "selected_round": selected}


def _config(run: Run) -> dict[str, Any]:
    """The arm's configuration, put together again from parameters such as criterion.name."""
    told = {name.removeprefix("scp_ray."): value for name, value in run.data.tags.items()}
    told = {name: value for name, value in told.items() if name in ("rounds", "select") or name.startswith("stop.")}
    config: dict[str, Any] = {}
    for path, text in (dict(run.data.params) | told).items():
        *names, last = path.split(".")
        inner = config
        for name in names:
            inner = inner.setdefault(name, {})
        inner[last] = _value(text)
    return config


def _value(text: str) -> Any:
    """What was written as a parameter: MLflow keeps text alone."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _named(value: Any) -> Any:
    """As the ledger's table has an axis' value: a plug-in with options by its name."""
    if isinstance(value, list):
        return "-".join(str(_named(part)) for part in value)
    return value["name"] if isinstance(value, dict) and "name" in value else value
