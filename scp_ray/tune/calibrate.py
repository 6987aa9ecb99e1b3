"""One mini-round on the real device: a few training steps, a scoring, an evaluation. Nothing is kept.

The images are noise of the real size, so nothing has to be decoded, and the weights are fresh, so nothing is fetched:
neither changes what a step takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import torch

from scp_ray.allocator import give_back_freed_memory, keep_freed_memory
from scp_ray.assembly import State, build_learner, layer_scores, train_feed
from scp_ray.backbones.base import Backbone
from scp_ray.backbones.layers import find_layer
from scp_ray.config import TrialConfig
from scp_ray.config.identity import with_method
from scp_ray.data.base import DataSet
from scp_ray.data.batches import eval_batches, place
from scp_ray.devices import choose_device
from scp_ray.errors import BatchTooLargeError, ResourceError, ScpError
from scp_ray.loop.evaluate import evaluate
from scp_ray.loop.fit import fit_epochs
from scp_ray.methods.base import all_needs
from scp_ray.parts import SPLITS, FairnessData, Learner, Split, TrainPlan, state_to_cpu
from scp_ray.tune.cost import Range, Rates

STEPS = 4  # of training; the first warms up, and is not counted
SOME = 32  # images that a CPU is asked about: there the time grows with their number
AFFORD_S = 3.0  # for the forward passes of a whole scoring batch
SPREAD = (0.8, 1.4)  # what a whole epoch may take against the steps that were measured
UNEVEN = (0.6, 2.0)  # the same of scores, where layers differ, and of masks


@dataclass(frozen=True)
class Counts:
    """Images of a data set's splits."""

    train: int
    val: int
    test: int

    @classmethod
    def of(cls, data_set: DataSet) -> Counts:
        """As the tables say."""
        split = data_set.rows()["split"].value_counts()
        return cls(*(int(split.get(name, 0)) for name in SPLITS))


@dataclass(frozen=True)
class Task:
    """What is to be measured: one configuration, and how many images it meets."""

    config: TrialConfig
    counts: Counts


def calibrate(
    tasks: Sequence[Task], *, device: str, given_gpu: bool, threads: int, limit_s: float
) -> list[Rates | str]:
    """Rates of each task, in order; a sentence instead where it was not measured: no time left, or it cannot run.

    Started with time left, a task is gone through with; so the limit is passed by one task at most.
    """
    where = choose_device(device, given_gpu=given_gpu)
    keep_freed_memory()  # as a worker does
    before, started = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(threads)
    found: list[Rates | str] = []
    try:
        for task in tasks:
            if time.perf_counter() - started > limit_s:
                found.append(f"not measured within {limit_s:g} s")
                continue
            try:
                found.append(_measure(task, where))
            except (BatchTooLargeError, ResourceError, torch.OutOfMemoryError) as error:
                found.append(f"memory: {str(error).partition(chr(10))[0]}")
            except ScpError as error:
                found.append(str(error).partition("\n")[0])
    finally:
        torch.set_num_threads(before)
        give_back_freed_memory()  # this process may stay
    return found


def _measure(task: Task, device: torch.device) -> Rates:
    config = replace(task.config, backbone=_without_weights(task.config.backbone))
    sizes = (config.train.batch_size, config.fine_tune.batch_size)
    data = _noise(task, min(task.counts.train, max(sizes) if device.type == "cuda" else SOME))
    learner = build_learner(config, data, _needed(config, data)).to(device)
    asked = data.splits["val"]
    each = _timed(lambda: evaluate(learner, eval_batches(place(asked, device))), device, 2) / len(asked)
    train = _epoch(config, config.train, learner, data, task, device)
    plans = (config.train, config.fine_tune)
    alike = len({(plan.batch_size, plan.augment, plan.loss, plan.precision) for plan in plans}) == 1
    fine_tune = train if alike else _epoch(config, config.fine_tune, learner, data, task, device)
    score = Range(0, 0)
    if config.criterion.prunes:
        score = _score(config, learner, each, task, device)
    finish = Range(0, 0)
    if config.method.post_hoc:
        some = place(data.splits["train"], device)
        once = _timed(lambda: config.method.finish_(learner, eval_batches(some)), device, 1) / len(some)
        finish = Range(once, once).times(task.counts.train).widened(*UNEVEN)
    evaluated = Range(each, each).times(task.counts.val + task.counts.test).widened(*SPREAD)
    return Rates(train, fine_tune, score, evaluated, finish)


def _epoch(
    config: TrialConfig, plan: TrainPlan, learner: Learner, data: FairnessData, task: Task, device: torch.device
) -> Range:
    """Seconds of an epoch of the real number of images, from steps on ``data``, whose training split is a batch."""
    size = min(plan.batch_size, len(data.splits["train"]))
    few = replace(plan, epochs=STEPS, batch_size=size)
    feed, ends = train_feed(config, few, data, device), [time.perf_counter()]
    for _ in fit_epochs(learner, feed, few, seed=0):
        _wait(device)
        ends.append(time.perf_counter())
    steps = [after - before for before, after in pairwise(ends[1:])]
    images = task.counts.train - task.counts.train % min(plan.batch_size, task.counts.train)
    return Range(min(steps), max(steps)).times(images / size).widened(*SPREAD)


def _score(config: TrialConfig, learner: Learner, each: float, task: Task, device: torch.device) -> Range:
    """Seconds of scoring the layer over the real number of images, from one scoring batch.

    Of a batch that would take long a part is scored instead: there nearly all time goes into the forward passes, which
    grow with the images; pairs of images, which grow with their square, are the high end's business.
    """
    whole = min(config.criterion.batch_size, task.counts.train)
    images = whole if device.type == "cuda" or whole * each <= AFFORD_S else min(SOME, whole)
    layer, data = find_layer(learner.layers, config.layer), _noise(task, images)
    once = _timed(lambda: layer_scores(config, data, device, learner, layer), device, 1)
    all_of_it = once * task.counts.train / images
    pairs = task.counts.train / images if config.criterion.scope == "dataset" else 1.0 if images == whole else 1.3
    return Range(all_of_it, all_of_it * pairs).widened(*UNEVEN)


def _noise(task: Task, count: int) -> FairnessData:
    """Splits of so many images of noise; all groups occur, and as many classes as there is room for."""
    data, draw = task.config.dataset, torch.Generator().manual_seed(0)
    side, names = data.image_size, tuple(str(row) for row in range(count))
    split = Split(
        image=torch.randint(0, 256, (count, 3, side, side), generator=draw, dtype=torch.uint8),
        label=torch.arange(count) // 2 % len(data.class_names),  # each class beside each group
        attributes=(torch.arange(count) % 2)[:, None].expand(count, len(data.attribute_names)).clone(),
        id=names,
        unit=names,
    )
    splits = {name: split for name in ("train", "val", "test")}
    return FairnessData(data.plugin_name, data.class_names, data.attribute_names, data.privileged_code, splits)


def _needed(config: TrialConfig, data: FairnessData) -> Mapping[str, State]:
    """Untrained weights of the base models that the method needs."""
    states: dict[str, State] = {}
    for method in all_needs(config.method):
        states[method.plugin_name] = state_to_cpu(build_learner(with_method(config, method), data, states).state_dict())
    return states


def _without_weights(backbone: Backbone) -> Backbone:
    named = {part.name for part in fields(backbone)}  # type: ignore[arg-type]
    return replace(backbone, weights="none") if "weights" in named else backbone  # type: ignore[type-var]


def _timed(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Seconds of the fastest of so many runs."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        _wait(device)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
