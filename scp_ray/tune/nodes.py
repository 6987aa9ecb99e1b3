"""One small task pinned to each node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scp_ray.errors import ResourceError
from scp_ray.tune.placement import Node

T = TypeVar("T")
ANSWER_S = 120.0  # a cold node imports torch from a slow disk


def on_each(nodes: Sequence[Node], function: Callable[..., T], *arguments: Any) -> dict[Node, T | ResourceError]:
    """What ``function(*arguments)`` gives on each node, or why there is nothing; on busy nodes, too.

    A node that has left the cluster meanwhile is left out.
    """
    task = ray.remote(function)
    asked = {
        node: task.options(  # no CPU of a node is needed for it
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(*arguments)
        for node in nodes
    }
    answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    answers: dict[Node, T | ResourceError] = {}
    for node, reference in asked.items():
        if reference not in answered:
            ray.cancel(reference, force=True)
            answers[node] = ResourceError(f"no answer within {ANSWER_S:.0f} s. Look at it (ray status), or remove it.")
            continue
        try:
            answers[node] = ray.get(reference)
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            answers[node] = ResourceError(
                f"scp_ray cannot run there: {reason}. Install the same scp_ray on every node."
            )
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    return {node: answer for node, answer in answers.items() if node.id in alive}
