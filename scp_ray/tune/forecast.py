"""What a sweep will take, before it starts: rates from earlier sweeps or from a mini-round, then arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import ray

from scp_ray.config import Resources, SweepConfig, TrialConfig
from scp_ray.errors import ResourceError
from scp_ray.places import AnyPath
from scp_ray.tune.beside import beside_main_thread
from scp_ray.tune.calibrate import Counts, Task, calibrate
from scp_ray.tune.connection import connected
from scp_ray.tune.cost import Cost, Range, Rates, Slots, Work, cost_of, searched, spanned, works_of
from scp_ray.tune.disk import Disk, disk_of
from scp_ray.tune.facts import node_here
from scp_ray.tune.node_types import nodes_to_come
from scp_ray.tune.outlook import Outlook
from scp_ray.tune.placement import Bundle, Node, fits, head_only, trial_bundles
from scp_ray.tune.preflight import checked_request, cluster_nodes
from scp_ray.tune.rates import History, history_of
from scp_ray.tune.space import Job

LIMIT_S = 20.0  # of mini-rounds
GUESS = (0.4, 2.5)  # what one kind may take against those that were measured


@dataclass(frozen=True)
class Forecast:
    """What is known before the start."""

    cost: Cost
    slots: Slots
    disk: Disk
    where: str  # "2 CPUs of this machine": what the slots were counted on
    sources: list[str]  # where the rates come from, a sentence each
    history: History = field(default_factory=History)
    refusal: str = ""  # why a sweep would be refused there, as it says it


def forecast(
    config: SweepConfig, ahead: Outlook, root: AnyPath, address: str | None = None, *, limit_s: float = LIMIT_S
) -> Forecast:
    """Look at the cluster and at earlier sweeps, measure what neither tells, and add up.

    Args:
        ahead: what is still to be done.
        root: the sweep's folder; sweeps beside it are looked at too.
        address: of a running Ray cluster, which then also measures; without it this machine is taken.
        limit_s: of mini-rounds.

    Raises ResourceError where the cluster does not answer.
    """
    history = history_of(root)
    if address is None:
        return _forecast(config, ahead, history, [node_here()], [], "this machine", calibrate, limit_s)
    return beside_main_thread(lambda: _forecast_of_cluster(config, ahead, history, address, limit_s))


def _forecast_of_cluster(
    config: SweepConfig, ahead: Outlook, history: History, address: str, limit_s: float
) -> Forecast:
    with connected(address):
        nodes = cluster_nodes()
        to_come = nodes_to_come(config.resources.node_types, nodes, config.resources.scorers + 1)
        bundle = head_only(trial_bundles(config.resources, [*nodes, *to_come]))[0]
        remote = ray.remote(num_cpus=bundle["CPU"], num_gpus=bundle["GPU"])(calibrate)

        def measure(tasks: Sequence[Task], **options: object) -> list[Rates | str]:
            if not fits([bundle], nodes):
                return ["no node of the cluster can hold a trial now"] * len(tasks)
            try:
                found: list[Rates | str] = ray.get(remote.remote(tasks, **options), timeout=3 * limit_s + 60)
            except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError) as error:
                return [f"the cluster did not measure it ({type(error).__name__})"] * len(tasks)
            return found

        return _forecast(config, ahead, history, nodes, to_come, f"the cluster at {address}", measure, limit_s)


def _forecast(
    config: SweepConfig,
    ahead: Outlook,
    history: History,
    nodes: Sequence[Node],
    to_come: Sequence[Node],
    where: str,
    measure: Callable[..., list[Rates | str]],
    limit_s: float,
) -> Forecast:
    refusal = ""
    try:
        bundles = checked_request(config.resources, nodes, to_come)
    except ResourceError as error:
        refusal, bundles = str(error), trial_bundles(config.resources, [*nodes, *to_come])
    if not refusal and not fits(bundles, nodes):
        nodes, where = [*nodes, *to_come], f"{where}, with nodes that may still start"
    slots = Slots(slots_on(nodes, head_only(bundles)), slots_on(nodes, bundles))
    device = "cuda" if bundles[0]["GPU"] else "cpu"
    rates, sources = _rates(config.resources, ahead.jobs, history, device, bundles[0]["GPU"] > 0, measure, limit_s)
    works = works_of(ahead.jobs, rates, {True: _held(head_only(bundles)), False: _held(bundles)})
    disk = disk_of(ahead)
    least = most = works
    if ahead.searches:
        least, most = _searched(ahead, works)
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    have = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "") + f" of {where}"
    return Forecast(cost_of(least, most, slots), slots, disk, have, sources, history, refusal)


def _searched(ahead: Outlook, works: Sequence[Work]) -> tuple[list[Work], list[Work]]:
    pairs = list(zip(ahead.jobs, works, strict=True))
    kinds = [work for job, work in pairs if job.trial is not None]
    bases = [[work for job, work in pairs if job.trial is None and job.config.seed in ahead.first]]
    bases.append([work for job, work in pairs if job.trial is None])
    made = [searched(own, kinds, ahead.configurations, count) for own, count in zip(bases, ahead.seeds, strict=True)]
    return made[0], made[1]


def slots_on(nodes: Sequence[Node], bundles: Sequence[Bundle], most: int = 10_000) -> int:
    """How many groups of bundles the nodes' totals hold at once."""
    low, high = 0, 1
    while high <= most and fits([*bundles] * high, nodes):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits([*bundles] * middle, nodes) else (low, middle)
    return low


def _held(bundles: Sequence[Bundle]) -> tuple[float, float]:
    return sum(bundle["CPU"] for bundle in bundles), sum(bundle["GPU"] for bundle in bundles)


# -- rates ------------------------------------------------------------------------------------------------------------


def _rates(
    resources: Resources,
    jobs: Sequence[Job],
    history: History,
    device: str,
    given_gpu: bool,
    measure: Callable[..., list[Rates | str]],
    limit_s: float,
) -> tuple[dict[str, Rates], list[str]]:
    """Rates by job id, and where they come from: history, else measured, else what the others took."""
    kinds: dict[TrialConfig, list[str]] = {}
    for job in jobs:
        kinds.setdefault(_kind(job.config), []).append(job.id)
    seen = {kind: history.rates(kind, device, resources.threads) for kind in kinds}
    known = {kind: rates for kind, rates in seen.items() if rates is not None}
    sources = []
    if known:
        sources.append(f"{len(known)} of {len(kinds)} kinds of work have been done in {_sweeps(history)}")
    asked = sorted((kind for kind in kinds if kind not in known), key=lambda kind: -len(kinds[kind]))
    measured: dict[TrialConfig, Rates] = {}
    if asked:
        tasks = [Task(kind, Counts.of(kind.dataset)) for kind in asked]
        options = {"device": resources.device, "given_gpu": given_gpu, "threads": resources.threads}
        answers = measure(tasks, **options, limit_s=limit_s)
        measured = {kind: each for kind, each in zip(asked, answers, strict=True) if isinstance(each, Rates)}
        reasons = list(dict.fromkeys(each for each in answers if isinstance(each, str)))
        if measured:
            sources.append(
                f"{len(measured)} of {len(kinds)} measured by a mini-round on {device}, with noise as images"
            )
        if reasons:
            sources.append(
                f"{len(asked) - len(measured)} of {len(kinds)} taken to be like the others ({'; '.join(reasons)})"
            )
    every = known | measured
    found = {name: every.get(kind) or _guess(kind, every) for kind, names in kinds.items() for name in names}
    return found, sources


def _guess(kind: TrialConfig, known: Mapping[TrialConfig, Rates]) -> Rates:
    """Of a kind that was not measured: what others of its data and backbone took, else others at all; else unknown."""
    if not known:
        unknown = Range(0, float("inf"))
        return Rates(unknown, unknown, unknown, unknown)
    like = [rates for other, rates in known.items() if (other.dataset, other.backbone) == (kind.dataset, kind.backbone)]
    names = ("train", "fine_tune", "score", "evaluate", "finish")
    spans = {name: spanned(getattr(rates, name) for rates in like or known.values()) for name in names}
    return Rates(**{name: span.widened(*GUESS) for name, span in spans.items()})


def _kind(config: TrialConfig) -> TrialConfig:
    """The configuration without what takes no time, or hardly any: its seed, ratio, layer, learning rates and rules."""
    train, fine_tune = (
        replace(plan, epochs=1, lr=0.01, momentum=0.9, weight_decay=0.0, lr_step=1, lr_gamma=1.0)
        for plan in (config.train, config.fine_tune)
    )
    config = replace(config, train=train, fine_tune=fine_tune, pr_c=None if config.pr_c is None else 0.1)
    return replace(config, seed=0, layer=-1, rounds=1, select="last", mask="full")


def _sweeps(history: History) -> str:
    return "an earlier sweep" if history.sweeps == 1 else f"{history.sweeps} earlier sweeps"
