"""What a sweep will take, before it starts: rates from earlier sweeps or from a mini-round, then arithmetic."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import ray

from scp_ray.config import Arm, Resources, SweepConfig, TrialConfig
from scp_ray.data.base import DataSet
from scp_ray.parts import SPLITS
from scp_ray.places import AnyPath
from scp_ray.tune.calibrate import Counts, Task, calibrate
from scp_ray.tune.connection import connected
from scp_ray.tune.cost import Cost, Range, Rates, Slots, cost_of, searched, spanned, works_of
from scp_ray.tune.facts import machine_here
from scp_ray.tune.placement import Bundle, Node, fits, head_only, trial_bundles
from scp_ray.tune.preflight import cluster_nodes
from scp_ray.tune.rates import History, history_of
from scp_ray.tune.space import Job, Plan

LIMIT_S = 20.0  # of mini-rounds
GUESS = (0.4, 2.5)  # what one kind may take against those that were measured
ROW_BYTES = (10.0, 60.0)  # of a prediction beside its logits: ids, codes, compressed more or less


@dataclass(frozen=True)
class Disk:
    """Bytes that a sweep leaves, by what they are."""

    weights: Range  # models and states at the end
    predictions: Range
    store: int  # decoded images, once on each node that lacks them

    @property
    def total(self) -> Range:
        """All of it, of one node."""
        return self.weights.plus(self.predictions).plus((self.store, self.store))


@dataclass(frozen=True)
class Forecast:
    """What is known before the start."""

    cost: Cost
    slots: Slots
    disk: Disk
    where: str  # "2 CPUs of this machine": what the slots were counted on
    sources: list[str]  # where the rates come from, a sentence each
    seeds: tuple[int, int] = (0, 0)  # of a configuration, at least and at most
    history: History = field(default_factory=History)


def forecast(
    config: SweepConfig,
    arms: Sequence[Arm],
    plan: Plan,
    root: AnyPath,
    *,
    address: str | None = None,
    limit_s: float = LIMIT_S,
    search: tuple[int, tuple[int, int]] | None = None,
) -> Forecast:
    """Look at the cluster and at earlier sweeps, measure what neither tells, and add up.

    Args:
        arms: of a search those configurations that were looked at.
        plan: the jobs of ``arms`` that the ledger lacks.
        address: of a running Ray cluster, which then also measures; without it this machine is taken.
        limit_s: of mini-rounds.
        search: configurations that the search is still to try, and the least and most seeds of each.

    Raises ResourceError where the cluster does not answer.
    """
    history = history_of(root)
    if address is None:
        machine = machine_here(None)
        nodes, where = [Node(platform.node(), machine["cpus"], machine["gpus"])], "this machine"
        return _forecast(config, arms, plan, history, nodes, where, calibrate, limit_s, search)
    with connected(address):
        nodes = cluster_nodes()
        bundle = head_only(trial_bundles(config.resources, nodes))[0]
        remote = ray.remote(num_cpus=bundle["CPU"], num_gpus=bundle["GPU"])(calibrate)

        def measure(tasks: Sequence[Task], **options: object) -> list[Rates | str]:
            try:
                found: list[Rates | str] = ray.get(remote.remote(tasks, **options), timeout=3 * limit_s + 60)
            except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError) as error:
                return [f"the cluster did not measure it ({type(error).__name__})"] * len(tasks)
            return found

        return _forecast(config, arms, plan, history, nodes, f"the cluster at {address}", measure, limit_s, search)


def _forecast(
    config: SweepConfig,
    arms: Sequence[Arm],
    plan: Plan,
    history: History,
    nodes: Sequence[Node],
    where: str,
    measure: Callable[..., list[Rates | str]],
    limit_s: float,
    search: tuple[int, tuple[int, int]] | None,
) -> Forecast:
    bundles = trial_bundles(config.resources, nodes)
    slots = Slots(slots_on(nodes, head_only(bundles)), slots_on(nodes, bundles))
    device = "cuda" if bundles[0]["GPU"] else "cpu"
    rates, sources = _rates(config.resources, plan.to_do, history, device, bundles[0]["GPU"] > 0, measure, limit_s)
    held = {True: _held(head_only(bundles)), False: _held(bundles)}
    works = works_of(plan.to_do, rates, held)
    least = most = works
    count = len(arms[0].trials) if arms else 0
    seeds = (count, count)
    if search is not None:
        configurations, seeds = search
        bases = [work for work, job in zip(works, plan.to_do, strict=True) if job.trial is None]
        kinds = [work for work, job in zip(works, plan.to_do, strict=True) if job.trial is not None]
        least, most = searched(bases, kinds, configurations, seeds) if kinds else (works, works)
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    have = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "") + f" of {where}"
    share = (len(least) / len(works), len(most) / len(works)) if works else (1.0, 1.0)
    return Forecast(cost_of(least, most, slots), slots, _disk(config, plan, share), have, sources, seeds, history)


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
        tasks = [Task(kind, _counts(kind.dataset)) for kind in asked]
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
    plans = {
        name: replace(plan, epochs=1, lr=0.01, momentum=0.9, weight_decay=0.0, lr_step=1, lr_gamma=1.0)
        for name, plan in (("train", config.train), ("fine_tune", config.fine_tune))
    }
    pr_c = None if config.pr_c is None else 0.1
    return replace(config, **plans, seed=0, pr_c=pr_c, layer=-1, rounds=1, select="last", mask="full")


def _counts(data_set: DataSet) -> Counts:
    split = data_set.rows()["split"]
    return Counts(*(int((split == name).sum()) for name in SPLITS))


def _sweeps(history: History) -> str:
    return "an earlier sweep" if history.sweeps == 1 else f"{history.sweeps} earlier sweeps"


# -- disk -------------------------------------------------------------------------------------------------------------


def _disk(config: SweepConfig, plan: Plan, share: tuple[float, float]) -> Disk:
    predictions = Range(0, 0)
    for job in plan.to_do:
        counts = _counts(job.config.dataset)
        rounds = 1 if job.trial is None else max(0, job.config.rounds - job.rounds_done)
        logits = 2 * len(job.config.dataset.class_names)
        images = rounds * (counts.val + counts.test)
        predictions = predictions.plus((images * (logits * 0.7 + ROW_BYTES[0]), images * (logits + ROW_BYTES[1])))
    most = plan.weight_bytes()
    store = sum(data_set.bytes_to_store() for data_set in {job.config.dataset for job in plan.to_do})
    # in the end a trial keeps one state, and of the models the front's and each arm's best
    weights = Range(0.4 * most * share[0], most * share[1])
    return Disk(weights, Range(predictions.low * share[0], predictions.high * share[1]), store)
