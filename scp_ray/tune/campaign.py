"""The course of a search: which configuration runs next with which seed, and when its value is told. No Ray."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from scp_ray.config.search import SearchConfig
from scp_ray.errors import ScpError
from scp_ray.tune.racing import Measured, estimates, in_the_race, mean_of
from scp_ray.tune.samplers import Settings
from scp_ray.tune.space import PASSING
from scp_ray.tune.study import Study


@dataclass
class Configuration:
    """A point of the space with its seeds: what the sampler sees as one trial."""

    number: int  # Optuna's
    settings: Settings
    key: Hashable  # what it resolves to
    seeds: list[int]  # asked for so far
    state: str = "RUNNING"  # as Optuna's: RUNNING, COMPLETE, PRUNED or FAIL
    kind: str = ""  # of failure
    reason: str = ""  # why it failed, or was stopped early
    measured: dict[int, Measured] = field(default_factory=dict)
    handed_out: set[int] = field(default_factory=set)

    @property
    def waiting(self) -> list[int]:
        """Seeds that nobody runs yet."""
        return [seed for seed in self.seeds if seed not in self.handed_out]


@dataclass(frozen=True)
class Run:
    """One seed of a configuration, to be run."""

    configuration: Configuration
    seed: int


class Campaign:
    """Deals out runs and takes their results; the study is the memory.

    Args:
        search: the checked block.
        study: what was asked and told before goes on.
        identify: what a point resolves to; two points of one key are one. Raises ScpError where it makes no trial.
        changed: called whenever a configuration has begun, got a seed, or ended.
        retry_failed: configurations that have failed are tried once more, under new numbers.
    """

    def __init__(
        self,
        search: SearchConfig,
        study: Study,
        identify: Callable[[Settings], Hashable],
        changed: Callable[[Configuration], None] = lambda _: None,
        *,
        retry_failed: bool = False,
    ) -> None:
        self._search, self._study, self._identify, self._changed = search, study, identify, changed
        self.configurations: dict[int, Configuration] = {}  # those tried once more are left out
        self.exhausted = False
        self._again: list[Configuration] = []
        for trial in study.trials:
            known = Configuration(
                trial.number,
                study.settings(trial),
                trial.user_attrs["key"],
                list(trial.user_attrs["seeds"]),
                trial.state.name,
                trial.user_attrs.get("kind", ""),
                trial.user_attrs.get("reason", ""),
                study.replicates(trial),
            )
            self.configurations.pop(trial.user_attrs.get("again", -1), None)
            self.configurations[known.number] = known
        for known in self.configurations.values():
            if known.state == "FAIL" and (retry_failed or known.kind in PASSING):
                self._again.append(known)

    @property
    def over(self) -> bool:
        """Whether every configuration has ended and no other will come."""
        return not self._going_on and not self._again and (self.exhausted or self._full)

    @property
    def to_come(self) -> int:
        """Configurations that are not asked yet."""
        return 0 if self.exhausted else max(0, self._search.trials - len(self.configurations))

    @property
    def _going_on(self) -> list[Configuration]:
        return [each for each in self.configurations.values() if each.state == "RUNNING"]

    @property
    def _full(self) -> bool:
        return len(self.configurations) >= self._search.trials

    def next(self) -> Run | None:
        """The next run; None while results are waited for, and at the end."""
        while True:
            for configuration in self._going_on:
                if configuration.waiting:
                    seed = configuration.waiting[0]
                    configuration.handed_out.add(seed)
                    return Run(configuration, seed)
            if not self.begin():
                return None

    def done(self, run: Run, measured: Measured) -> None:
        """A run has given its numbers."""
        configuration = run.configuration
        if configuration.state != "RUNNING":
            return  # another seed has failed it
        configuration.measured[run.seed] = measured
        if set(configuration.measured) >= set(configuration.seeds):
            self._settle(configuration)

    def failed(self, run: Run, kind: str, reason: str) -> None:
        """A run has failed, and its configuration with it: no mean is made of the seeds that are left."""
        configuration = run.configuration
        if configuration.state == "RUNNING":
            self._fail(configuration, kind, f"seed {run.seed}: {reason}")

    def stopped(self, run: Run, measured: Measured, step: int, reason: str) -> None:
        """A run was stopped after round ``step``, and its configuration with it."""
        configuration = run.configuration
        if configuration.state == "RUNNING":
            configuration.state, configuration.reason = "PRUNED", f"seed {run.seed}: {reason}"
            self._study.prune(configuration.number, measured, step, configuration.reason)
            self._changed(configuration)

    def _settle(self, configuration: Configuration) -> None:
        left = [seed for seed in self._search.replicates.seeds if seed not in configuration.seeds]
        if self._search.replicates.race and left and self._races(configuration):
            configuration.seeds.append(left[0])
            self._study.note(configuration.number, seeds=configuration.seeds)
        else:
            self._study.tell(configuration.number, mean_of([*configuration.measured.values()]), configuration.measured)
            configuration.state = "COMPLETE"
        self._changed(configuration)

    def _races(self, configuration: Configuration) -> bool:
        first = set(self._search.replicates.first)
        known = {
            each.number: [*each.measured.values()]
            for each in self.configurations.values()
            if each.state in ("RUNNING", "COMPLETE") and first <= set(each.measured)
        }
        return in_the_race(configuration.number, estimates(known))

    def begin(self) -> bool:
        """One more configuration, if there is one to come; returns whether there was."""
        if self._again:
            before = self._again.pop(0)
            del self.configurations[before.number]
            self._start(before.settings, before.key, {"again": before.number})
            return True
        if self._full or self.exhausted:
            return False
        known = {each.key for each in self.configurations.values()}
        for settings in self._search.warm_start:
            key = self._key(settings)
            if key not in known:
                self._start(dict(settings), key)
                return True
        for settings, noted in self._study.proposals():
            key = self._key(settings)
            if key not in known:
                self._start(settings, key, system=noted)
                return True
        self.exhausted = True
        return False

    def _key(self, settings: Settings) -> Hashable:
        try:
            return self._identify(settings)
        except ScpError:
            return f"no trial: {settings}"

    def _start(
        self,
        settings: Settings,
        key: Hashable,
        user: dict[str, int] | None = None,
        system: dict[str, object] | None = None,
    ) -> None:
        seeds = list(self._search.replicates.first)
        number = self._study.add(settings, {"key": key, "seeds": seeds} | (user or {}), system)
        configuration = self.configurations[number] = Configuration(number, settings, key, seeds)
        try:
            self._identify(settings)
        except ScpError as error:  # only this combination of values is refused; each by itself has been tried
            self._fail(configuration, type(error).__name__, str(error))
        else:
            self._changed(configuration)

    def _fail(self, configuration: Configuration, kind: str, reason: str) -> None:
        self._study.fail(configuration.number, kind, reason)
        configuration.state, configuration.kind, configuration.reason = "FAIL", kind, reason
        self._changed(configuration)
