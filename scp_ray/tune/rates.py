"""What work has taken before: rates from the ledgers of earlier sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from scp_ray.config import TrialConfig
from scp_ray.config.identity import data_identity
from scp_ray.config.trial import read_method
from scp_ray.errors import LedgerError
from scp_ray.ledger import Ledger, load_sweep
from scp_ray.ledger.load import Sweep
from scp_ray.methods.base import all_needs
from scp_ray.places import AnyPath
from scp_ray.remote import RemotePath
from scp_ray.tune.cost import Range, Rates
from scp_ray.tune.seed_noise import differences, seed_sd

MOST_SWEEPS = 10
LIKELY = (0.9, 1.15)  # how far the next run's mean may lie beyond what was seen
UNKNOWN = 0.1  # the standard error of a single observation, as a share of it


@dataclass
class History:
    """Seconds seen, by what they were spent on; see ``rates``."""

    train: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)  # an epoch
    finish: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)
    score: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)
    evaluate: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)
    seeds: dict[str, list[pd.DataFrame]] = field(default_factory=dict)  # by data: see ``seed_noise.differences``
    sweeps: int = 0

    def rates(self, config: TrialConfig, device: str, threads: int) -> Rates | None:
        """Of a configuration, where all of its work has been done before on such a device."""
        where = (_data(config), config.backbone.title, device, threads if device == "cpu" else 0)
        method = config.method.plugin_name
        fine = self.train.get((*where, method, _drawn(config.fine_tune), config.fine_tune.loss))
        native = self.train.get((*where, method, _drawn(config.train), config.train.loss))
        finish = self.finish.get((*where, method))
        if config.method.post_hoc and finish and fine:
            native = fine  # never trained by itself
        score = self.score.get((*where, config.criterion.plugin_name))
        evaluated = self.evaluate.get((*where, method))
        if not (fine and native and score and evaluated):
            return None
        nothing = Range(0, 0)
        last = _likely(finish) if finish and config.method.post_hoc else nothing
        return Rates(_likely(native), _likely(fine), _likely(score), _likely(evaluated), last)

    def seed_sd(self, config: TrialConfig) -> tuple[float, int] | None:
        """Standard deviation over seeds of an arm's Eodd less that before pruning, and its degrees of freedom.

        Of all arms on the configuration's data, see ``seed_noise.seed_sd``; None where too few seeds are done.
        """
        return seed_sd(self.seeds.get(_data(config), []))


def history_of(root: AnyPath) -> History:
    """What the sweep at ``root`` and the newest ones beside it have seen; those that cannot be read say nothing.

    On an object store only the sweep's own record is read.
    """
    found = History()
    roots = [root]
    if not isinstance(root, RemotePath):
        beside = {path.parent: path.stat().st_mtime for path in root.parent.glob("*/sweep.json")}
        beside.pop(root, None)
        roots += sorted(beside, key=lambda path: -beside[path])[: MOST_SWEEPS - 1]
    for each in roots:
        if Ledger(each).definition_path.exists():
            with suppress(LedgerError, KeyError):
                _add(found, load_sweep(each))
    return found


def _add(found: History, sweep: Sweep) -> None:
    if not len(sweep.rounds):
        return
    found.sweeps += 1
    arms = sweep.definition["arms"]
    entries = {trial["trial_id"]: arm for arm in arms for trial in arm["trials"]}
    bases = {trial["vanilla_id"]: arm for arm in arms for trial in arm["trials"]}
    bases |= {trial["base_id"]: arm for arm in arms for trial in arm["trials"]}
    for row, arm in _rows(sweep.bases, "base_id", bases):
        config, where = arm["config"], _where(row, arm)
        epochs = config["train"]["epochs"]
        if _post_hoc(row["method"], config["method"]):
            found.finish.setdefault((*where, row["method"]), []).append(row["seconds_fit"])
        elif epochs:
            key = (*where, row["method"], _drawn_of(config["train"]), config["train"].get("loss", "native"))
            found.train.setdefault(key, []).append(row["seconds_fit"] / epochs)
        found.evaluate.setdefault((*where, row["method"]), []).append(row["seconds_evaluate"])
    for row, arm in _rows(sweep.rounds[~sweep.rounds["from_base"].astype(bool)], "trial_id", entries):
        config, where = arm["config"], _where(row, arm)
        plan = config["fine_tune"]
        if plan["epochs"]:
            key = (*where, row["method"], _drawn_of(plan), plan.get("loss", "native"))
            found.train.setdefault(key, []).append(row["seconds_fit"] / plan["epochs"])
        found.score.setdefault((*where, row["criterion"]), []).append(row["seconds_score"])
        seconds = row["seconds_evaluate"] + row["seconds_test"]
        found.evaluate.setdefault((*where, row["method"]), []).append(seconds)
    told = differences(sweep)
    for data, own in told.groupby(told["arm"].map({arm["label"]: _data_of(arm) for arm in arms})):
        found.seeds.setdefault(str(data), []).append(own)


def _rows(table: pd.DataFrame, key: str, arms: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for row in table.to_dict("records"):
        if row[key] in arms:
            yield {str(name): value for name, value in row.items()}, arms[row[key]]


def _where(row: dict[str, Any], arm: dict[str, Any]) -> tuple[Any, ...]:
    device = str(row["device"]).partition(":")[0]
    return (_data_of(arm), row["backbone"], device, int(row["threads"]) if device == "cpu" else 0)


def _data(config: TrialConfig) -> str:
    identity = data_identity(config.dataset)
    return f"{identity['table']}/{identity['image_size']}"


def _data_of(arm: dict[str, Any]) -> str:
    return f"{arm['data']['table']}/{arm['data']['image_size']}"


def _drawn(plan: Any) -> tuple[Any, ...]:
    return (plan.batch_size, plan.augment, plan.precision)


def _drawn_of(plan: dict[str, Any]) -> tuple[Any, ...]:
    return (plan["batch_size"], plan["augment"], plan.get("precision", "float32"))


def _post_hoc(name: str, described: Any) -> bool:
    """Whether the base model of that name, which an arm's method is or needs, was made by ``finish_`` alone."""
    method = read_method(described, "method", [])
    known = [] if method is None else [method, *all_needs(method)]
    return any(each.post_hoc for each in known if each.plugin_name == name)


def _likely(seen: list[float]) -> Range:
    """What a mean over more of them will be: the mean seen, two standard errors, and what another day may change."""
    values = pd.Series(seen, dtype=float)
    error = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else float(values.iloc[0]) * UNKNOWN
    mean = float(values.mean())
    return Range(max(0.0, mean - 2 * error), mean + 2 * error).widened(*LIKELY)
