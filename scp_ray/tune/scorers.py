"""A trial's scorers: Ray actors that share its scoring batches, for as long as the trial runs.

Batches are dealt whole, and what they say is put together in their order, so the scores are the same, bit for bit,
however many scorers there are, whichever of them die, and whoever is slow.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RaySystemError, RayTaskError
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor

from scp_ray.assembly import State
from scp_ray.config import TrialConfig
from scp_ray.criteria.base import BatchwiseCriterion, Criterion
from scp_ray.data.batches import FixedBatches
from scp_ray.modes import evaluating
from scp_ray.parts import Learner, PrunableLayer
from scp_ray.terminal import Progress, silent
from scp_ray.tune.dealing import IN_FLIGHT, Dealer, Task
from scp_ray.tune.scorer import Request, Scorer, Setup, as_arrays, data_seen

POLL_S = 0.5
PATIENCE_S = 60.0  # without a scorer that is ready; then batches are scored here until one is
REPLACEMENTS = 3  # of each scorer, in a trial's life
STAGE = "scoring"
HERE = "this process"

log = logging.getLogger(__name__)
Ask = Callable[[Any, int], Any]  # an actor and a piece to a reference


class _Actor:
    """A scorer as the pool sees it."""

    def __init__(self, handle: Any, place: int) -> None:
        self.handle, self.place = handle, place
        self.name = f"scorer {place}"
        self.process = ""  # its node and process id, once it is ready


class Scorers:
    """Up to ``count`` actors, started by the first scoring; ``close`` ends them.

    Inside a Tune trial they take the bundles of its placement group that come after its own; elsewhere each asks for
    one CPU. Those that have not got their place yet are waited for by nobody.
    """

    def __init__(
        self,
        config: TrialConfig,
        count: int,
        *,
        bases: Callable[[], Mapping[str, State]] = dict,
        threads: int = 1,
        device: str = "auto",
        gpus: float = 0.0,
        progress: Progress = silent,
    ) -> None:
        """Starts nothing yet.

        Args:
            config: of the trial, whose data and learner every actor makes for itself.
            count: of actors; with 0 everything is scored in this process.
            bases: gives the weights of the base models that the method needs.
            threads: torch threads of the trial.
            device: auto, cpu or cuda: of actors that are given a GPU; others use the CPU.
            gpus: GPU share of each actor.
            progress: told of the batches that are done.
        """
        self._config, self._count, self._bases = config, count, bases
        self._threads, self._device, self._gpus, self._progress = threads, device, gpus, progress
        self._setup: Setup | None = None
        self._actors: list[_Actor] = []
        self._asked: dict[Any, tuple[_Actor, Task | None]] = {}  # by reference; None: to be ready
        self._dealer = Dealer()
        self._replaced: Counter[int] = Counter()
        self.tally: Counter[str] = Counter()  # batches scored by each

    def score(
        self,
        criterion: Criterion,
        learner: Learner,
        layer: PrunableLayer,
        batches: FixedBatches,
        *,
        group: Tensor | None = None,
    ) -> Tensor:
        """As ``criterion.score``, whatever it raises included; a criterion that goes by no batches is asked here.

        Args:
            batches: the criterion's ``scoring_batches`` of the trial's training split, which the actors make as well.
        """
        if not self._count or not isinstance(criterion, BatchwiseCriterion) or not len(batches):
            return criterion.score(learner, layer, batches, group=group)
        rows = batches.split.attributes[:, 0].cpu()[batches.order][None] if group is None else group.cpu()
        slices = [
            part.clone(memory_format=torch.contiguous_format) for part in torch.split(rows, batches.batch_size, 1)
        ]
        self._open()
        request = Request(criterion, layer, [ray.put(as_arrays(learner.state_dict()))])

        def here(index: int) -> Any:
            with evaluating(learner):
                return criterion.part(learner, layer, batches[index], slices[index])

        parts = self._run(len(slices), lambda actor, index: actor.part.remote(request, index, slices[index]), here)
        scores = criterion.combined(parts, torch.cat(slices, 1))
        return scores[0] if group is None else scores

    def close(self) -> None:
        """End every actor. The pool may be used again; then new ones are started."""
        actors, self._actors, self._asked, self._dealer = self._actors, [], {}, Dealer()
        for actor in actors:
            ray.kill(actor.handle)

    def _open(self) -> None:
        """Start the actors, where they are not there."""
        if self._setup is None:
            bases = {name: as_arrays(state) for name, state in self._bases().items()}
            seen = data_seen(self._config, self._config.dataset.load())
            self._setup = Setup(self._config, [ray.put(bases)], seen, self._threads, self._device, self._gpus)
        if not self._actors:
            self._replaced.clear()
            group = get_current_placement_group()
            count = self._count if group is None else min(self._count, group.bundle_count - 1)
            for place in range(1, count + 1):
                self._start(place)

    def _start(self, place: int) -> None:
        group, options = get_current_placement_group(), {}
        if group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, place)
        remote = ray.remote(Scorer).options(num_cpus=1, num_gpus=self._gpus, max_restarts=0, **options)
        actor = _Actor(remote.remote(self._setup), place)
        self._actors.append(actor)
        self._asked[actor.handle.open.remote()] = actor, None

    def _run(self, pieces: int, ask: Ask, here: Callable[[int], Any]) -> list[Any]:
        """The answers to all pieces, in order."""
        answers: dict[int, Any] = {}
        self._dealer.start(range(pieces))
        ready_at = time.monotonic()
        while self._dealer.missing:
            now = time.monotonic()
            for name in self._dealer.hanging(now):
                self._lose(next(actor for actor in self._actors if actor.name == name), "it has answered nothing")
            ready = [actor for actor in self._actors if actor.process]
            alone = not self._actors or now - ready_at > PATIENCE_S
            if ready:
                ready_at, alone = now, False
            elif alone:
                self._score_here(here, answers)
            for _ in range(IN_FLIGHT):
                for actor in ready:
                    if (task := self._dealer.take(actor.name, now)) is not None:
                        self._asked[ask(actor.handle, task.piece)] = actor, task
            self._collect(answers, timeout_s=0 if alone else POLL_S)
            self._progress(STAGE, pieces - self._dealer.missing, pieces)
        return [answers[index] for index in range(pieces)]

    def _collect(self, answers: dict[int, Any], *, timeout_s: float) -> None:
        """Take the next answer, where one comes in time."""
        ready = ray.wait([*self._asked], timeout=timeout_s)[0] if self._asked else []
        for reference in ready:
            actor, task = self._asked.pop(reference)
            try:
                answer = ray.get(reference)
            except RayTaskError as error:
                if isinstance(error.cause, RayError) and not isinstance(error.cause, RaySystemError):
                    self._lose(actor, error.cause)
                elif task is None or self._dealer.answered(actor.name, task, time.monotonic()):
                    raise error.cause from error  # the scoring's own: anybody would have met it
            except RayError as error:
                self._lose(actor, error)
            else:
                if task is None:
                    actor.process = answer
                elif self._dealer.answered(actor.name, task, time.monotonic()):
                    answers[task.piece] = answer
                    self.tally[actor.process] += 1

    def _score_here(self, here: Callable[[int], Any], answers: dict[int, Any]) -> None:
        if not self.tally[HERE]:
            log.warning("no scorer is there, so the trial's own process scores.")
        task = self._dealer.take(HERE, time.monotonic())
        if task is not None:
            answer = here(task.piece)
            if self._dealer.answered(HERE, task, time.monotonic()):
                answers[task.piece] = answer
                self.tally[HERE] += 1

    def _lose(self, actor: _Actor, why: object) -> None:
        """What the actor was at is dealt again, and another takes its place, but for a few times only."""
        log.warning("%s (%s) is lost; its batches are dealt again: %s", actor.name, actor.process or "not ready", why)
        self._actors.remove(actor)
        self._asked = {reference: asked for reference, asked in self._asked.items() if asked[0] is not actor}
        self._dealer.lost(actor.name)
        ray.kill(actor.handle)
        self._replaced[actor.place] += 1
        if self._replaced[actor.place] <= REPLACEMENTS:
            self._start(actor.place)
