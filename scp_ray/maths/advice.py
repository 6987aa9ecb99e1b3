"""When a design cannot answer its question: said in sentences, with what would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scp_ray.errors import ScpError
from scp_ray.maths.power import Detectable, detectable_difference, with_arms, with_seeds

PUBLISHED_SPREAD = 0.043  # Eodd from vanilla, 0.182, to the best row, 0.139, of the paper's Fitzpatrick-17k table
MORE_SEEDS = (3, 5, 8, 10, 15, 20, 30, 50)


def advice(
    found: Detectable,
    label: Any,
    group: Any,
    *,
    unit: Any = None,
    wanted: float | None = None,
    coarser: Mapping[str, Sequence[int]] | None = None,
    simulations: int = 200,
    seed: int = 0,
) -> list[str]:
    """Sentences on a design whose smallest Eodd difference is not below the one that matters; none where it is.

    Args:
        found: what ``detectable_difference`` told of the design.
        label, group, unit: (N,) it was told of.
        wanted: the Eodd difference that matters, such as ``PUBLISHED_SPREAD``; by default the Eodd of fair arms (the
            noise floor), beyond which no arm can come nearer to fairness.
        coarser: by name, the coarser class (K,) of each class, for which the design is simulated again.
        simulations, seed: of these.
    """
    design, said = found.design, []
    if design.seeds == 1:
        said.append(
            "One seed: the noise between trainings cannot be estimated, and any difference holds for this one training "
            "only. Plan 3 seeds or more."
        )
    target = wanted if wanted is not None else found.middle_floor
    if found.eodd[1] <= target:
        return said
    what = f"a difference of {target:.3f} in Eodd" if wanted is not None else f"the noise floor, {target:.3f}"
    sure = "cannot detect" if found.eodd[0] > target else "may miss"
    said.append(
        f"This design {sure} {what}: the smallest Eodd difference found with {design.power:.0%} power is "
        f"{_range(found.eodd)}, of {_counted(design.seeds, 'seed')} and {_counted(design.arms, 'arm')}."
        + " No gap is above 1: nothing can be found at all."
        * (found.eodd[0] > 1)
    )
    said.append(_more_seeds(found, target))
    if design.arms > 1:
        alone = with_arms(found, 1)
        said.append(f"Fewer arms: one arm against the baseline instead of {design.arms} detects {_range(alone.eodd)}.")
    for name, mapping in (coarser or {}).items():
        said.append(_coarser(found, label, group, unit, name, mapping, simulations, seed))
    return said


def _more_seeds(found: Detectable, target: float) -> str:
    for seeds in MORE_SEEDS:
        more = with_seeds(found, seeds)
        if seeds > found.design.seeds and more.eodd[1] <= target:
            return f"More seeds: {seeds} detect {_range(more.eodd)}."
    most = with_seeds(found, MORE_SEEDS[-1])
    return (
        f"More seeds alone are not enough: even {MORE_SEEDS[-1]} detect {_range(most.eodd)}, "
        "since what the images do to all seeds alike does not average out."
    )


def _coarser(
    found: Detectable, label: Any, group: Any, unit: Any, name: str, mapping: Sequence[int], simulations: int, seed: int
) -> str:
    codes, design = np.asarray(mapping), found.design
    if codes.ndim != 1 or len(codes) <= np.max(label) or codes.min() < 0:
        raise ScpError(f"coarser[{name!r}] must hold a class code for each class 0..{np.max(label)}: {codes.tolist()}.")
    classes = int(codes.max()) + 1
    again = detectable_difference(
        codes[np.asarray(label)], group, num_classes=classes, seeds=design.seeds, unit=unit, accuracy=design.accuracy,
        agreement=design.agreement, seed_sd=design.seed_sd, arms=design.arms, power=design.power, level=design.level,
        simulations=simulations, seed=seed,
    )  # fmt: skip
    return (
        f"Coarser labels: with {name} ({classes} classes) the same seeds detect {_range(again.eodd)}, "
        f"above a noise floor of {again.middle_floor:.3f}."
    )


def _range(values: tuple[float, float]) -> str:
    return f"{values[0]:.3f} to {values[1]:.3f}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
