"""Actors that share pieces of work: dealt anew where one dies, and waited for by nobody where one is slow."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ray
import torch
from ray.exceptions import RayError, RaySystemError, RayTaskError
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from scp_ray.terminal import Progress
from scp_ray.tune.dealing import IN_FLIGHT, Dealer, Task

POLL_S = 0.5
PATIENCE_S = 60.0  # without an actor that is ready; then pieces are done here until one is
REPLACEMENTS = 3  # of each actor
HERE = "this process"
# a stale mount or a broken CUDA context: the actor's surroundings, not the work
BROKEN = (OSError, torch.AcceleratorError)

log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What an actor has been asked for."""

    reference: Any  # there when it is done
    answer: Any = None  # what the answer is where it is not what the reference holds


class _Actor:
    """An actor as the pool sees it."""

    def __init__(self, handle: Any, place: int) -> None:
        self.handle, self.place = handle, place
        self.name = f"scorer {place}"
        self.process = ""  # its node and process id, once it is ready


class Pool:
    """Up to ``count`` actors, started by the first work and ended by ``close``.

    Inside a Tune trial they take the bundles of its placement group that come after its own; elsewhere each asks for
    one CPU. Those that have not got their place yet are waited for by nobody.
    """

    def __init__(self, count: int, gpus: float, progress: Progress) -> None:
        """Starts nothing yet; ``gpus`` is each actor's share of a GPU."""
        self._count, self._gpus, self._progress = count, gpus, progress
        self._actors: list[_Actor] = []
        self._asked: dict[Any, tuple[_Actor, Task | None, Any]] = {}  # by reference; no task: to be ready
        self._dealer = Dealer()
        self._replaced: Counter[int] = Counter()
        self._alone = False  # patience is spent, until an actor is ready
        self.tally: Counter[str] = Counter()  # pieces done by each process

    def open(self, kind: type, *arguments: Any, wait: bool = False) -> None:
        """Start the actors, where they are not there.

        Args:
            kind: has a method ``open`` that returns "node:process id", and ``rest``, which gives back what is not
                needed between two works.
            arguments: of ``kind``.
            wait: for as long as it takes, unless all are lost, because this process cannot do what they do.
        """
        self._kind, self._arguments, self._wait = kind, arguments, wait
        if not self._actors:
            self._replaced.clear()
            self._alone = False
            group = get_current_placement_group()
            count = self._count if group is None else min(self._count, group.bundle_count - 1)
            for place in range(1, count + 1):
                self._start(place)

    def close(self) -> None:
        """End every actor. The pool may be opened again; then new ones are started."""
        actors, self._actors, self._asked, self._dealer = self._actors, [], {}, Dealer()
        for actor in actors:
            ray.kill(actor.handle)

    def rest(self) -> None:
        """Tell every actor that is ready that no more work comes for a while; nobody waits for it."""
        for actor in self._actors:
            if actor.process:
                actor.handle.rest.remote()

    def run(
        self, stage: str, pieces: Sequence[int], ask: Callable[[Any, int], Asked], here: Callable[[int], Any]
    ) -> dict[int, Any]:
        """The answers to all pieces.

        Args:
            stage: what kind of work it is: pieces of one kind take about as long as each other.
            pieces: their numbers.
            ask: asks an actor for a piece.
            here: does a piece in this process, where no actor is to be had.

        Raises whatever a piece raised, as itself; but an actor whose surroundings are ``BROKEN`` is lost.
        """
        answers: dict[int, Any] = {}
        ready_at, wait_s = time.monotonic(), 0.0
        self._dealer.start(pieces, stage, ready_at)
        while self._dealer.missing:
            self._collect(answers, timeout_s=wait_s)
            now = time.monotonic()
            for name in self._dealer.give_up(now):
                self._lose(next(actor for actor in self._actors if actor.name == name), "it has answered nothing")
            ready = [actor for actor in self._actors if actor.process]
            if ready:
                ready_at, self._alone = now, False
            elif self._alone or not self._actors or (not self._wait and now - ready_at > PATIENCE_S):
                self._alone = True
                self._do_here(here, answers)
            for _ in range(IN_FLIGHT):
                for actor in ready:
                    if (task := self._dealer.take(actor.name, now)) is not None:
                        asked = ask(actor.handle, task.piece)
                        self._asked[asked.reference] = actor, task, asked.answer
            wait_s = 0.0 if self._alone else POLL_S
            self._progress(stage, len(pieces) - self._dealer.missing, len(pieces))
        return answers

    def _start(self, place: int) -> None:
        group, options = get_current_placement_group(), {}
        if group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, place)
        remote = ray.remote(self._kind).options(num_cpus=1, num_gpus=self._gpus, max_restarts=0, **options)
        actor = _Actor(remote.remote(*self._arguments), place)
        self._actors.append(actor)
        self._asked[actor.handle.open.remote()] = actor, None, None

    def _collect(self, answers: dict[int, Any], *, timeout_s: float) -> None:
        """Wait for an answer, and take all that are there: who has answered is not taken to hang."""
        if not (references := [*self._asked]):
            return
        ray.wait(references, timeout=timeout_s)
        for reference in ray.wait(references, num_returns=len(references), timeout=0)[0]:
            if reference not in self._asked:
                continue  # its actor was lost a moment ago
            actor, task, kept = self._asked.pop(reference)
            try:
                answer = ray.get(reference)
            except RayTaskError as error:
                lost = isinstance(error.cause, RayError) and not isinstance(error.cause, RaySystemError)
                if lost or isinstance(error.cause, BROKEN):
                    self._lose(actor, error.cause)
                elif task is None or self._dealer.answered(actor.name, task, time.monotonic()):
                    raise error.cause from error  # the work's own: whoever did it would have met it
            except RayError as error:
                self._lose(actor, error)
            else:
                if task is None:
                    actor.process = answer
                else:
                    self._take(actor.name, actor.process, task, answer if kept is None else kept, answers)

    def _take(self, name: str, process: str, task: Task, answer: Any, answers: dict[int, Any]) -> None:
        if self._dealer.answered(name, task, time.monotonic()):
            answers[task.piece] = answer
            self.tally[process] += 1

    def _do_here(self, here: Callable[[int], Any], answers: dict[int, Any]) -> None:
        if (task := self._dealer.take(HERE, time.monotonic())) is not None:
            if not self.tally[HERE]:
                log.warning("no scorer is there, so the trial's own process scores.")
            self._take(HERE, HERE, task, here(task.piece), answers)

    def _lose(self, actor: _Actor, why: object) -> None:
        """What the actor was at is dealt again, and another takes its place, but for a few times only."""
        log.warning("%s (%s) is lost; its work is dealt again: %s", actor.name, actor.process or "not ready", why)
        self._actors.remove(actor)
        self._asked = {reference: asked for reference, asked in self._asked.items() if asked[0] is not actor}
        self._dealer.lost(actor.name)
        ray.kill(actor.handle)
        self._replaced[actor.place] += 1
        if self._replaced[actor.place] <= REPLACEMENTS:
            self._start(actor.place)
