"""Invented arms on a table: how much the images move their difference, by the size of that difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scp_ray.maths.metrics import observed_metrics
from scp_ray.maths.planted_pairs import image_variance, planted_pairs
from scp_ray.maths.rates import Ints

Point = tuple[float, float, float]
METRICS = ("f1", "eodd", "fate")
SHARED = 0.5  # share of the images' noise in a difference that all seeds have in common
UNEVEN = (0.0, 0.1, 0.2, 0.45)  # how far arms are driven apart between the groups, to see how a gap's variance grows


@dataclass(frozen=True)
class Scenario:
    """Simulated arms of one accuracy and agreement: F1 and Eodd of fair ones, variances by the size of a difference."""

    accuracy: float
    agreement: float
    f1: float
    eodd: float
    # by metric: differences of the arms, each with its variance over images that is common to seeds, and a seed's own
    variances: dict[str, tuple[Point, ...]]


def scenario(
    label: Ints,
    group: Ints,
    unit: Ints,
    num_classes: int,
    accuracy: float,
    agreement: float,
    *,
    tables: int,
    rng: np.random.Generator,
) -> Scenario:
    """Invent ``tables`` pairs of arms at each of ``UNEVEN``, and see how their differences move.

    Args:
        label, group, unit: (N,) codes of the table; see ``planted_pairs``.
        num_classes: K.
        accuracy, agreement: of both arms; see ``planted_pairs``.
    """
    points: dict[str, list[Point]] = {name: [] for name in METRICS}
    base_f1 = base_eodd = 0.0
    for uneven in UNEVEN:
        answers = planted_pairs(
            label, unit, accuracy=accuracy, agreement=agreement, shared=SHARED, tables=tables, rng=rng,
            group=group, uneven=uneven,
        )  # fmt: skip
        seen = observed_metrics(label, group, answers.reshape(4 * tables, -1), num_classes=num_classes)
        f1, eodd = (seen[name].reshape(2, 2, tables) for name in ("f1", "eodd"))
        if not uneven:
            base_f1, base_eodd = float(f1.mean()), float(eodd.mean())
        moved = {"f1": f1[:, 0] - f1[:, 1], "eodd": eodd[:, 0] - eodd[:, 1]}
        # FATE of an arm less that of the other, relative to typical values: to first order the baseline cancels
        moved["fate"] = moved["f1"] / base_f1 - moved["eodd"] / base_eodd
        for name, both in moved.items():
            points[name].append((abs(float(both.mean())), *image_variance(*both)))
    points["f1"] = points["f1"][:1]  # an arm that is better in both groups is no more uneven
    return Scenario(
        accuracy, agreement, base_f1, base_eodd, {name: tuple(sorted(each)) for name, each in points.items()}
    )
