"""Invented predictions of two arms on a real table: what a design can see, before anything is trained."""

from __future__ import annotations

import numpy as np

from scp_ray.errors import ScpError
from scp_ray.maths.rates import Floats, Ints


def planted_pairs(
    label: Ints,
    unit: Ints,
    *,
    accuracy: float,
    agreement: float,
    shared: float,
    tables: int,
    rng: np.random.Generator,
    group: Ints | None = None,
    uneven: float = 0.0,
) -> Ints:
    """(2 seeds, 2 arms, tables, N) answers of two arms that are equally good, and so in both groups unless ``uneven``.

    Args:
        label: (N,) classes, two or more of them.
        unit: (N,) codes 0..U-1 of what belongs together: images of one unit and class are answered alike.
        accuracy: probability of a right answer; a wrong one is the label of some image of another class.
        agreement: share of images that both arms of a seed answer alike, in all. Where arms of this accuracy agree
            more often by chance, they are drawn apart.
        shared: share of images that two seeds answer alike in both arms, for reasons other than chance.
        group: (N,) codes 0 and 1; needed where ``uneven`` is not 0.
        uneven: by how much the first arm is more accurate in group 0, and less in group 1, in what it does not share
            with the second.
    """
    parts, first_image, of_image = np.unique(unit * (label.max() + 1) + label, return_index=True, return_inverse=True)
    truth = parts % (label.max() + 1)  # (U,)
    others = len(label) - np.bincount(label)[truth]  # (U,) images of other classes
    if others.min() == 0:
        raise ScpError("label must hold two classes or more: a wrong answer is one of the others.")
    ordered, start = np.sort(label), np.searchsorted(np.sort(label), truth)
    copied = _copied(agreement, accuracy, _chance(label))
    shape = (tables, len(truth))

    tilt = 0.0 if group is None else uneven * (1 - 2 * group[first_image])  # (U,)

    def answers(right: float | Floats = accuracy) -> Ints:
        drawn = (rng.random(shape) * others).astype(np.int64)
        wrong = ordered[np.where(drawn >= start, drawn + len(label) - others, drawn)]
        given: Ints = np.where(rng.random(shape) < right, truth, wrong)
        return given

    def pair() -> Ints:
        second, own = answers(), answers(np.clip(accuracy + tilt, 0.02, 0.98))
        return np.stack([np.where(rng.random(shape) < copied, second, own), second])

    always = pair()
    # each seed takes it with the root of the probability, so that both do with the probability
    seeds = [np.where(rng.random(shape) < shared**0.5, always, pair()) for _ in range(2)]
    return np.stack(seeds)[..., of_image]


def image_variance(first: Floats, second: Floats) -> tuple[float, float]:
    """Of differences (tables,) of two seeds on the same images: the variance common to all seeds, and a seed's own."""
    total = float((first.var(ddof=1) + second.var(ddof=1)) / 2)
    common = min(total, max(0.0, float(np.cov(first, second)[0, 1])))
    return common, total - common


def _chance(label: Ints) -> float:
    """Probability that two wrong answers to an image are the same one, over the images."""
    frequency = np.bincount(label) / len(label)
    return float((frequency * ((frequency**2).sum() - frequency**2) / (1 - frequency) ** 2).sum())


def _copied(agreement: float, accuracy: float, chance: float) -> float:
    """Share of images whose answer the second arm takes from the first, for so much agreement in all."""
    apart = accuracy**2 + (1 - accuracy) ** 2 * chance
    return max(0.0, (agreement - apart) / (1 - apart)) if apart < 1 else 0.0
