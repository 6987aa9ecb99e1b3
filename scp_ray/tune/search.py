"""A search as jobs: what the campaign deals out is planned against the ledger; what the ledger holds is told back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from scp_ray.config import Arm, SweepConfig
from scp_ray.errors import ConfigError, ScpError
from scp_ray.ledger import Ledger, Sink
from scp_ray.ledger.definition import with_arm
from scp_ray.ledger.files import write_json
from scp_ray.ledger.records import Row, rows_done, stopped_early
from scp_ray.tune.campaign import Campaign, Configuration, Run
from scp_ray.tune.early import EarlyStop
from scp_ray.tune.measures import measure
from scp_ray.tune.samplers import Settings
from scp_ray.tune.space import Job, plan_jobs
from scp_ray.tune.study import Study

Told = Callable[[Sequence[Job], int], None]


class Search:
    """The jobs of a search, as they come.

    Args:
        told: hears of new jobs, and of how many trials are still to come at most.
    """

    def __init__(
        self,
        config: SweepConfig,
        ledger: Ledger,
        study: Study,
        sinks: Sequence[Sink],
        told: Told,
        *,
        retry_failed: bool,
    ) -> None:
        assert config.search is not None
        self._config, self._search, self._ledger, self._sinks, self._told = config, config.search, ledger, sinks, told
        self._retry_failed = retry_failed
        self._definition: dict[str, Any] | None = None
        self._runs: dict[str, tuple[Run, Job]] = {}  # by trial id
        self._early: EarlyStop | None = None
        self.campaign = Campaign(self._search, study, self._key, self._changed, retry_failed=retry_failed)

    def arms(self) -> list[Arm]:
        """The arms of all configurations so far, by number; those that make no trial are left out."""
        known = sorted(self.campaign.configurations.values(), key=lambda each: each.number)
        return [arm for each in known if (arm := self._arm(each)) is not None]

    def first_arms(self) -> list[Arm]:
        """``arms``, once there is one: sweep.json needs it. Raises ConfigError where no point makes a trial."""
        while not (arms := self.arms()):
            if not self.campaign.begin():
                raise ConfigError("search.space: no point of it makes a trial; see the reasons above.")
        return arms

    def open(self, definition: dict[str, Any]) -> None:
        """sweep.json is there; from here on it is kept up to date."""
        self._definition = definition
        for configuration in self.campaign.configurations.values():
            self._add_arm(configuration)
        self._write()
        if self._search.asha:
            trials = [trial for arm in self.arms() for trial in arm.trials]
            self._early = EarlyStop(self._search.asha, self._search, self._ledger, trials[0].config.rounds)
            for trial in trials:
                self._early.recall(trial)

    def more(self) -> list[Job]:
        """Jobs to run next, bases first; empty while results are waited for, and at the end."""
        while (run := self.campaign.next()) is not None:
            arm = self._config.arm_at(run.configuration.settings, [run.seed])
            plan = plan_jobs([arm], self._ledger, retry_failed=self._retry_failed, searching=True)
            trial = arm.trials[0]
            job = next(each for each in (*plan.to_do, *plan.done, *plan.failed) if each.id == trial.trial_id)
            self._runs[job.id] = run, job
            if plan.failed:
                failures = self._ledger.failures()
                at = next(each for each in (*job.requires, job.id) if each in failures)
                self.failed(job.id, failures[at])
            elif job in plan.done:
                self.ended(job.id)
            else:
                self._told(plan.to_do, self._most_to_come)
                return list(plan.to_do)
        return []

    def ended(self, trial_id: str) -> None:
        """A trial has come to its end; its numbers are in the ledger."""
        run, job = self._runs.pop(trial_id)
        assert job.trial is not None
        rows = self._ledger.rounds(trial_id)
        if not rows_done(rows, job.config.rounds, searching=True):
            self.campaign.failed(run, "Unknown", "it ended without its last round.")
            return
        try:
            measured = measure(job.trial, rows, self._ledger.base_row(job.trial.vanilla_id), self._search)
        except ScpError as error:
            self.campaign.failed(run, type(error).__name__, str(error))
            return
        if reason := stopped_early(rows[-1]):
            self.campaign.stopped(run, measured, rows[-1]["round"], reason)
        else:
            self.campaign.done(run, measured)

    def judge(self, trial_id: str, row: Row) -> Row | None:
        """A run has committed a row and waits: None where it goes on, else its last row, marked as the end of it."""
        if self._early is None or trial_id not in self._runs:
            return None
        run, job = self._runs[trial_id]
        assert job.trial is not None
        reason = ""
        if run.configuration.state == "RUNNING":
            reason = self._early.reason(job.trial, row)
        elif run.configuration.state == "PRUNED":  # one that has failed may be tried again, with all that its seeds did
            rows = self._ledger.rounds(trial_id)  # the last may have ended it, and this be told once more
            done = rows_done(rows, job.config.rounds, searching=True)
            reason = "" if done else "another seed has ended its configuration"
        return self._ledger.stop_trial(trial_id, reason) if reason else None

    def failed(self, trial_id: str, failure: dict[str, Any]) -> None:
        """A trial has failed."""
        run, _ = self._runs.pop(trial_id)
        self.campaign.failed(run, failure.get("kind", "Unknown"), failure["reason"])

    def wanted(self, trial_id: str) -> bool:
        """Whether its numbers still count: another seed may have failed its configuration meanwhile."""
        return trial_id in self._runs and self._runs[trial_id][0].configuration.state == "RUNNING"

    @property
    def _most_to_come(self) -> int:
        """Trials that are not handed out yet, without what a race may add."""
        waiting = sum(len(each.waiting) for each in self.campaign.configurations.values() if each.state == "RUNNING")
        return waiting + self.campaign.to_come * len(self._search.replicates.first)

    def _key(self, settings: Settings) -> str:
        return self._config.arm_at(settings, self._search.replicates.first[:1]).trials[0].trial_id

    def _arm(self, configuration: Configuration) -> Arm | None:
        try:
            return self._config.arm_at(configuration.settings, configuration.seeds)
        except ScpError:
            return None

    def _changed(self, configuration: Configuration) -> None:
        if configuration.state == "FAIL":
            print(f"configuration {configuration.number} failed: {configuration.reason}", file=sys.stderr)
        if self._definition is not None:
            self._add_arm(configuration)
            self._write()

    def _add_arm(self, configuration: Configuration) -> None:
        assert self._definition is not None
        arm = self._arm(configuration)
        if arm is None:
            return
        standing: dict[str, Any] = {"number": configuration.number, "state": configuration.state}
        if configuration.reason:
            standing["reason"] = configuration.reason
        self._definition = with_arm(self._definition, arm, standing)

    def _write(self) -> None:
        assert self._definition is not None
        self._ledger.check_lease()
        write_json(self._ledger.definition_path, self._definition)
        for sink in self._sinks:
            sink.grown(self._definition)
