"""The Optuna study of a search: what was asked, what it gave. A file of the sweep's own, or any Optuna storage."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from scp_ray.addresses import without_secrets
from scp_ray.config import SweepConfig
from scp_ray.config.search import SearchConfig
from scp_ray.errors import ConfigError, LedgerError, ScpError
from scp_ray.ledger import Ledger
from scp_ray.ledger.files import write_bytes
from scp_ray.ledger.live import live_path
from scp_ray.tune.racing import Measured
from scp_ray.tune.samplers import Settings, directions, from_optuna, proposals, running

JOURNAL = "optuna-journal.log"
_FINGERPRINT = "scp_ray.fingerprint"


@contextmanager
def _answering() -> Iterator[None]:
    """Raises LedgerError where the storage does not answer, whatever kind of storage it is."""
    try:
        yield
    except ScpError:
        raise
    except Exception as error:
        raise LedgerError(
            f"the search's storage failed ({type(error).__name__}: {error}). What is told stays; run the same command "
            "again when it answers."
        ) from error


class Study:
    """A stored study. Every change is in the storage, and in DIR, when the call that makes it returns."""

    def __init__(self, search: SearchConfig, study: optuna.Study, keep: Callable[[], None] = lambda: None) -> None:
        self._search, self._study, self._keep = search, study, keep

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials by number."""
        with _answering():
            return self._study.get_trials(deepcopy=False)

    def settings(self, trial: FrozenTrial) -> Settings:
        """The point of a trial."""
        return from_optuna(self._search, trial.params)

    def proposals(self) -> Iterator[tuple[Settings, dict[str, Any]]]:
        """See ``samplers.proposals``."""
        return proposals(self._search, self.trials)

    def add(self, settings: Settings, user: dict[str, Any], system: dict[str, Any] | None = None) -> int:
        """A point begins to run; returns its number."""
        number = len(self.trials)
        with _answering():
            self._study.add_trial(running(self._search, settings, user, system or {}))
            self._keep()
        return number

    def note(self, number: int, **attributes: Any) -> None:
        """Something more is known of a trial that is going on."""
        with _answering():
            trial = self._trial(number)
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            self._keep()

    def tell(self, number: int, measured: Measured, seeds: Mapping[int, Measured]) -> None:
        """A trial's value, with what its seeds gave."""
        replicates = {str(seed): [*each.costs, *each.violations] for seed, each in seeds.items()}
        with _answering():
            trial = self._trial(number)
            self._set_constraints(trial, measured)
            trial.set_user_attr("replicates", replicates)
            self._study.tell(number, self._values(measured))
            self._keep()

    def prune(self, number: int, measured: Measured, step: int, reason: str) -> None:
        """A trial that was stopped after round ``step``, and what it was worth there; of a single objective."""
        with _answering():
            trial = self._trial(number)
            self._set_constraints(trial, measured)
            trial.set_user_attr("reason", reason)
            (value,) = self._values(measured)
            trial.report(value, step)
            self._study.tell(number, state=TrialState.PRUNED)
            self._keep()

    def fail(self, number: int, kind: str, reason: str) -> None:
        """A trial that has no value."""
        with _answering():
            trial = self._trial(number)
            trial.set_user_attr("kind", kind)
            trial.set_user_attr("reason", reason)
            self._study.tell(number, state=TrialState.FAIL)
            self._keep()

    def replicates(self, trial: FrozenTrial) -> dict[int, Measured]:
        """What the seeds of a finished trial gave."""
        split = len(self._search.objectives)
        return {
            int(seed): Measured(tuple(values[:split]), tuple(values[split:]))
            for seed, values in trial.user_attrs.get("replicates", {}).items()
        }

    def _set_constraints(self, trial: optuna.Trial, measured: Measured) -> None:
        for constraint, violation in zip(self._search.constraints, measured.violations, strict=True):
            if constraint.metric not in trial.constraints:  # noted before a kill: the first value stays
                trial.set_constraint(constraint.metric, violation)

    def _values(self, measured: Measured) -> list[float]:
        return [
            -cost if objective.direction == "max" else cost
            for objective, cost in zip(self._search.objectives, measured.costs, strict=True)
        ]

    def _trial(self, number: int) -> optuna.Trial:
        # of a trial that another process has begun Optuna has no other handle that takes constraints
        return optuna.Trial(self._study, self.trials[number]._trial_id)


def fingerprint(config: SweepConfig) -> dict[str, Any]:
    """What may not change while a search goes on: its values would not compare."""
    search = config.search
    assert search is not None
    trial = {key: value for key, value in config.trial.items() if key not in ("dataset", "rounds")}
    dataset = config.trial.get("dataset")
    if isinstance(dataset, Mapping):
        dataset = {key: value for key, value in dataset.items() if key != "root"}
    parts = {
        "space": {each.key: [each.kind, each.low, each.high, each.log, each.choices] for each in search.space},
        "objectives": [
            [each.metric, each.direction] for each in search.objectives
        ],  # their order is that of the values
        "constraints": [[each.metric, each.sign, each.factor, each.base] for each in search.constraints],
        "sampler": [search.sampler, search.seed],
        "replicates": [search.replicates.seeds, search.replicates.first, search.replicates.race],
        "asha": search.asha and [search.asha.grace, search.asha.reduction],
        "trial": trial | {"dataset": dataset, "rounds": config.trial.get("rounds")},
    }
    return dict(json.loads(json.dumps(parts, sort_keys=True)))


def open_study(config: SweepConfig, ledger: Ledger, *, make: bool) -> Study | None:
    """The study of a sweep; None where there is none yet and none is to be made. ``make``: the caller holds the sweep.

    Raises ConfigError where the study is of another search, LedgerError where its storage cannot be used.
    """
    search = config.search
    assert search is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what it would say at each trial the sweep says itself
    url = search.storage_url
    live = live_path(ledger.root, JOURNAL)
    target = ledger.root / JOURNAL
    remote = target != live
    if not make and not (_stored(url) if url is not None else target.exists() or live.exists()):
        return None
    try:
        if url is None and remote and target.exists() and (make or not live.exists()):
            live.write_bytes(target.read_bytes())
        storage = RDBStorage(url) if url is not None else _journal(live, clear=make)
        names = optuna.get_all_study_names(storage)
        if config.name not in names and not make:
            return None
        study = _study(config, search, storage, fresh=config.name not in names)
    except (ConfigError, LedgerError):
        raise
    except Exception as error:  # of a file, a database, a driver that is missing: which, depends on the URL
        raise LedgerError(
            f"cannot use {search.storage or live} as the search's storage: {without_secrets(str(error), url or '')}. "
            "Name another one (search.storage), or choose another --out."
        ) from error

    def keep() -> None:
        ledger.check_lease()
        write_bytes(target, live.read_bytes())

    return Study(search, study, keep if url is None and remote else lambda: None)


def _stored(url: str) -> bool:
    """False for an SQLite database whose file is not there: to look into it would make it."""
    backend, _, rest = url.partition(":///")
    path = rest.partition("?")[0]
    return backend.partition("+")[0] != "sqlite" or not path or Path(path).exists()


def _study(config: SweepConfig, search: SearchConfig, storage: BaseStorage, *, fresh: bool) -> optuna.Study:
    sampler = RandomSampler(seed=0)  # never asked: see ``proposals``
    now = fingerprint(config)
    if fresh:
        study = optuna.create_study(
            storage=storage, sampler=sampler, study_name=config.name, directions=directions(search)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([objective.metric for objective in search.objectives])
        study.set_user_attr(_FINGERPRINT, now)
        return study
    study = optuna.load_study(storage=storage, sampler=sampler, study_name=config.name)
    before = study.user_attrs.get(_FINGERPRINT)
    if before is None and not study.get_trials(deepcopy=False):  # killed right after it was made
        study.set_user_attr(_FINGERPRINT, now)
        return study
    other = [part for part in now if (before or {}).get(part) != now[part]]
    if other:
        was = {part: (before or {}).get(part) for part in other}
        raise ConfigError(
            f"search: the study {config.name!r} was begun with other values of {', '.join(other)}: {json.dumps(was)}. "
            "Its values would not compare with those of this space. Put them back, or give the space another name."
        )
    return study


def _journal(path: Path, *, clear: bool) -> JournalStorage:
    """The journal on this machine. ``clear``: the caller holds the sweep; what a killed driver left half done goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if clear:
        for lock in path.parent.glob(f"{path.name}.lock*"):
            lock.unlink(missing_ok=True)
    if clear and path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            path.write_bytes(whole)
    return JournalStorage(JournalFileBackend(str(path)))
