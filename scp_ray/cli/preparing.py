"""From a request to its start, in the order of what it costs: what needs no pixel comes before images are decoded."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scp_ray import signals
from scp_ray.cli.spaces import prepare_data
from scp_ray.errors import ConfigError, ScpError
from scp_ray.places import AnyPath, any_path

if TYPE_CHECKING:
    from scp_ray.config import Arm, SweepConfig, TrialConfig
    from scp_ray.tune.own_ray import OwnRay

P = TypeVar("P")


def ready_arms(
    config: SweepConfig,
    *,
    new: bool,
    plan: Callable[[list[Arm]], tuple[P, bool]],
    refuse: Callable[[Sequence[TrialConfig]], None],
    look: bool = False,
) -> tuple[list[Arm], P]:
    """The arms of a request that can be met and their plan, with images decoded where something is to be done.

    What a trial is called depends on which images can be used, which takes a look at each of them. Those of a data set
    that is met for the first time are looked at and decoded in one go: before, all is checked that the tables tell.

    Args:
        config: the request.
        new: whether the ledger is still empty, so that something is to be done for certain.
        plan: compares the arms with the ledger; also says whether that leaves something to be done.
        refuse: raises where what is to be done cannot be done here; given the configurations of the arms.
        look: look at the images before they are decoded, since ``refuse`` has to know what trials are called.

    Raises ConfigError, DataError, and what ``refuse`` raises.
    """
    known = images_known(config)
    if not known:
        configs = checked(config)
        if look:
            _look_at_images(config)
        elif new and configs is not None:
            refuse(configs)
    if decode_first := not (known or look):
        prepare_data(config)
    arms = config.resolved_arms()
    planned, left = plan(arms)
    if left and not (decode_first and new):
        refuse([trial.config for arm in arms for trial in arm.trials])
    if not decode_first:
        prepare_data(config, decode=left)
    return arms, planned


def checked(config: SweepConfig) -> list[TrialConfig] | None:
    """The arms, once all that can be told without a look at images is right with them.

    None where the tables are all that is wrong: that is told by who looks at the images, with what is wrong there.
    """
    try:
        return config.check()
    except ConfigError as error:
        if not all(fault.startswith("trial.dataset") for fault in error.faults):
            raise
    return None


def images_known(config: SweepConfig) -> bool:
    """Whether every image has been looked at, so that the arms can be resolved at once."""
    try:
        return all(data_set.is_known() for data_set in config.data_sets())
    except ScpError:  # of the tables: ``checked`` tells it with all else that is wrong
        return False


def _look_at_images(config: SweepConfig) -> None:
    from scp_ray.terminal import Counter

    for data_set in config.data_sets():
        data_set.health(Counter("images"))


@contextmanager
def ray_on_its_way(options: argparse.Namespace, raw: dict[str, Any]) -> Iterator[str | OwnRay | None]:
    """Where a sweep will run. A Ray of our own starts at once, beside our imports and checks, where it will be needed.

    That is: where nothing of the sweep is there yet. Whatever ends the block ends it too.
    """
    if not _starts_at_once(options, raw):
        yield options.address
        return
    from scp_ray.tune.own_ray import OwnRay

    with OwnRay() as own:
        yield own


def put_off(place: str | OwnRay | None, config: SweepConfig) -> str | OwnRay | None:
    """Where images are still to be looked at and decoded, a Ray of our own would idle beside it: it starts later."""
    if place is None or isinstance(place, str) or images_known(config):
        return place
    place.end()
    return None


def _starts_at_once(options: argparse.Namespace, raw: dict[str, Any]) -> bool:
    # a limit on GPU-hours may measure first, with nothing beside it; in another program's process we start nothing that
    # it has not asked for
    if options.dry_run or options.address or options.max_gpu_hours is not None or not signals.taken():
        return False
    out, name = any_path(options.out), raw.get("name")
    return isinstance(out, Path) and isinstance(name, str) and not os.path.exists(out / name / "sweep.json")


@contextmanager
def leaving_no_trace(root: AnyPath) -> Iterator[None]:
    """Folders that are made for a sweep which is then refused are removed again, as long as they are empty."""
    made = [each for each in (root, *root.parents) if not each.exists()] if isinstance(root, Path) else []
    try:
        yield
    finally:
        for folder in made:
            try:
                folder.rmdir()
            except OSError:  # it holds something, or was never made
                break
