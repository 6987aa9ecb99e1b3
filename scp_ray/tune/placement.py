"""The placement group of a trial, and whether nodes can hold it: arithmetic without Ray.

A group is the trial's own bundle and one for each of its scorers. It starts when all of its bundles have their place,
on one node or on several (Ray's strategy PACK). Ray looks for one way of placing them, not for the best; a group that
it cannot place on idle nodes that way stays pending for ever. So the same way is gone here, that of Ray 2.60.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scp_ray.config import Resources

Bundle = dict[str, float]

# Ray counts resources in ten-thousandths: three bundles of 0.3333 GPU share one, and so they do here
_UNIT = 10_000


@dataclass(frozen=True)
class Node:
    """What a node has in all, not what is free now."""

    name: str
    cpus: float
    gpus: float
    id: str = ""  # Ray's; empty for a node that may still start


def trial_bundles(resources: Resources, nodes: Sequence[Node]) -> list[Bundle]:
    """CPUs and GPUs of one trial, then of each of its scorers; ``gpus_per_trial: auto`` is 1 where nodes have GPUs."""
    gpus = resources.gpus_per_trial
    if gpus == "auto":
        gpus = 1.0 if any(node.gpus for node in nodes) and resources.device != "cpu" else 0.0
    head = {"CPU": float(resources.cpus_per_trial), "GPU": float(gpus)}
    return [head, *({"CPU": 1.0, "GPU": float(resources.gpus_per_scorer)} for _ in range(resources.scorers))]


def head_only(bundles: Sequence[Bundle]) -> list[Bundle]:
    """The group of a base model, which scores nothing."""
    return list(bundles[:1])


def fits(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> bool:
    """Whether Ray can place all bundles at once on idle nodes.

    The bundle with most GPUs, then CPUs, goes to the node that keeps the largest share free; what else that node's
    totals hold goes there too; the rest goes on to the next node.
    """
    free = [_Free(node) for node in nodes]
    waiting = sorted(range(len(bundles)), key=lambda at: (-bundles[at]["GPU"], -bundles[at]["CPU"]))
    while waiting:
        first = bundles[waiting[0]]
        able = [node for node in free if node.holds(first)]
        if not able:
            return False
        best = max(able, key=lambda node: node.share_left(first))
        free.remove(best)
        taken = [at for at in waiting if best.take(bundles[at])]
        waiting = [at for at in waiting if at not in taken]
        if not best.devices_hold([bundles[at]["GPU"] for at in sorted(taken)]):
            return False
    return True


def nearest_request(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> dict[str, float]:
    """The settings that fit and change least: a smaller trial only where none fits, then as many scorers as fit.

    Empty where no node has a whole CPU.
    """
    head, scorers, settings = bundles[0], list(bundles[1:]), {}
    if not fits([head], nodes):
        usable = [node for node in nodes if node.cpus >= 1]
        if not usable:
            return {}
        nearest = min(usable, key=lambda node: (max(0, head["GPU"] - node.gpus), max(0, head["CPU"] - node.cpus)))
        head = {"CPU": min(head["CPU"], nearest.cpus // 1), "GPU": min(head["GPU"], nearest.gpus)}
        settings = {"resources.cpus_per_trial": head["CPU"], "resources.gpus_per_trial": head["GPU"]}
    if scorers and not any(node.gpus for node in nodes) and scorers[0]["GPU"]:
        settings["resources.gpus_per_scorer"] = 0.0
        scorers = [bundle | {"GPU": 0.0} for bundle in scorers]
    most = next(count for count in range(len(scorers), -1, -1) if fits([head, *scorers[:count]], nodes))
    return settings | ({"resources.scorers": float(most)} if most < len(scorers) else {})


class _Free:
    """What is left of a node, in Ray's units."""

    def __init__(self, node: Node) -> None:
        self._left = {"CPU": round(node.cpus * _UNIT), "GPU": round(node.gpus * _UNIT)}
        self._devices = [_UNIT] * int(node.gpus)

    def holds(self, bundle: Bundle) -> bool:
        return all(round(amount * _UNIT) <= self._left[kind] for kind, amount in bundle.items())

    def share_left(self, bundle: Bundle) -> float:
        return sum(1 - amount * _UNIT / self._left[kind] for kind, amount in bundle.items() if amount)

    def take(self, bundle: Bundle) -> bool:
        if not self.holds(bundle):
            return False
        for kind, amount in bundle.items():
            self._left[kind] -= round(amount * _UNIT)
        return True

    def devices_hold(self, gpus: Sequence[float]) -> bool:
        """Whether what the totals hold fits the single devices: two GPUs hold two shares of 0.6, not three."""
        for amount in gpus:
            units = round(amount * _UNIT)
            each = min(units, _UNIT)
            wanted = units // each if each else 0
            # the fullest that has room: whole devices stay whole for those who need them
            able = sorted((left, at) for at, left in enumerate(self._devices) if left >= each)[:wanted]
            if len(able) < wanted:
                return False
            for _, at in able:
                self._devices[at] -= each
        return True
