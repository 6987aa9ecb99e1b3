"""Which of several workers takes which piece of work next, so that none idles and a slow one holds nobody back.

Bookkeeping alone: no Ray, no clock of its own.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Hashable, Sequence
from typing import NamedTuple

IN_FLIGHT = 2  # the piece that a worker is at, and one more, so that it need not wait for us
LATE = 2.0  # times the median: a piece that takes longer is given to an idle worker as well
LOST = 20.0  # times the median, and no less than LOST_S: a worker that takes longer is given up
LOST_S = 60.0
UNKNOWN_S = 600.0  # where no piece has been answered yet; twice as long after each worker that was given up for it
RECENT = 100  # pieces that the median is taken over


class Task(NamedTuple):
    """A piece of a lot; answers to earlier lots count no more."""

    lot: int
    piece: int


class Dealer:
    """Deals lots of like pieces, one lot after the other, to workers that each do what they are given in order."""

    def __init__(self) -> None:
        self._lot = 0
        self._left: deque[int] = deque()  # dealt to nobody yet
        self._open: set[int] = set()
        self._queues: dict[Hashable, deque[Task]] = {}
        self._began: dict[Hashable, float] = {}  # when a worker began the first piece of its queue
        self._known: dict[str, deque[float]] = {}  # what pieces took, by kind
        self._times: deque[float] = deque()  # of this lot's kind
        self._unknown_s = UNKNOWN_S

    def start(self, pieces: Sequence[int], kind: str, now: float) -> None:
        """A new lot; what a piece takes is known from lots of the same kind.

        Nobody has looked at answers since the lot before, so the time of who has a piece of it still begins anew.
        """
        self._times = self._known.setdefault(kind, deque(maxlen=RECENT))
        self._lot += 1
        self._left, self._open = deque(pieces), set(pieces)
        self._began |= {worker: now for worker, queue in self._queues.items() if queue}

    @property
    def missing(self) -> int:
        """Pieces of the lot that nobody has answered."""
        return len(self._open)

    def take(self, worker: Hashable, now: float) -> Task | None:
        """What the worker is to do next: a piece of its own, or where all are dealt, a copy of another's that is late.

        None where it has enough, or nothing is to be done for it.
        """
        queue = self._queues.setdefault(worker, deque())
        if len(queue) >= IN_FLIGHT:
            return None
        if self._left:
            index: int | None = self._left.popleft()
        else:
            index = None if queue else self._late(now)
        if index is None:
            return None
        task = Task(self._lot, index)
        if not queue:
            self._began[worker] = now
        queue.append(task)
        return task

    def answered(self, worker: Hashable, task: Task, now: float) -> bool:
        """Whether the answer is wanted: the first one to a piece of this lot."""
        queue = self._queues[worker]
        queue.remove(task)
        began, self._began[worker] = self._began[worker], now
        if task.lot != self._lot:
            return False
        self._times.append(now - began)
        wanted = task.piece in self._open
        self._open.discard(task.piece)
        return wanted

    def lost(self, worker: Hashable) -> None:
        """The worker answers no more: what only it was at is dealt again, before all else."""
        mine = {task.piece for task in self._queues.pop(worker, ()) if task.lot == self._lot} & self._open
        self._left.extendleft(sorted(mine - self._dealt(), reverse=True))

    def give_up(self, now: float) -> list[Hashable]:
        """Workers that have been at one piece for so long that they will not answer; they are lost.

        As long as no piece of the kind has been answered they may all be at work on long ones: then only the one that
        is longest at its piece is lost, and the others are given twice the time.
        """
        limit = max(LOST_S, LOST * statistics.median(self._times)) if self._times else self._unknown_s
        hanging = [worker for worker, queue in self._queues.items() if queue and now - self._began[worker] > limit]
        if hanging and not self._times:
            hanging = [min(hanging, key=self._began.__getitem__)]
            self._unknown_s *= 2
        for worker in hanging:
            self.lost(worker)
        return hanging

    def _dealt(self) -> set[int]:
        return {task.piece for queue in self._queues.values() for task in queue if task.lot == self._lot}

    def _late(self, now: float) -> int | None:
        """A piece at one worker only: one that waits behind another, or else the one that is longest worked at."""
        holders: dict[int, list[Hashable]] = {}
        for worker, queue in self._queues.items():
            for task in queue:
                if task.lot == self._lot and task.piece in self._open:
                    holders.setdefault(task.piece, []).append(worker)
        single = {index: found[0] for index, found in holders.items() if len(found) == 1}
        first = {worker: queue[0] for worker, queue in self._queues.items() if queue}
        waiting = [index for index, worker in single.items() if first[worker] != Task(self._lot, index)]
        if waiting:
            return min(waiting, key=lambda index: self._began[single[index]])
        usual = statistics.median(self._times) if self._times else UNKNOWN_S
        late = [index for index, worker in single.items() if now - self._began[worker] > LATE * usual]
        return min(late, key=lambda index: self._began[single[index]], default=None)
