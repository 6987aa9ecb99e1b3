"""A page of training images, as stored and as the augmentation draws them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scp_ray.data.augment import augment
from scp_ray.maths.balance import balanced_weights
from scp_ray.parts import FairnessData, TrainPlan
from scp_ray.seeds import derive_seed


@dataclass(frozen=True)
class Page:
    """Rows of images with what they show."""

    images: Tensor  # (rows, 1 + draws, 3, S, S) float in [0, 1]; the first of each row is as stored
    captions: list[str]


def draw_page(data: FairnessData, recipe: str, rows: int, draws: int, seed: int) -> Page:
    """Training images chosen evenly over (class, group) cells, each with its own augmented draws."""
    train, plan = data.splits["train"], TrainPlan(augment=recipe)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(derive_seed(seed, "page"))
    group = train.attributes[:, 0]
    weights = balanced_weights(train.label, group, "class_group")
    assert weights is not None
    chosen = torch.multinomial(weights, min(rows, len(train)), generator=generator)
    stored = train.image[chosen]
    drawn = augment(stored.repeat_interleave(draws, 0), plan.augment, generator)
    images = torch.cat([stored[:, None].float() / 255, drawn.view(len(chosen), draws, *stored.shape[1:])], 1)
    name = data.attribute_names[0]
    captions = [f"{data.class_names[train.label[row]]}\n{name} {int(group[row])}\n{train.id[row]}" for row in chosen]
    return Page(images, captions)
