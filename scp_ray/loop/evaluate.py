"""Ask a learner about a whole split."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from scp_ray.errors import DataError
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, Evaluation, Learner


def evaluate(learner: Learner, batches: Iterable[Batch]) -> Evaluation:
    """Eval mode, no gradient; predictions are decided in float32. The learner's mode is restored."""
    label, attributes, answers = [], [], []
    with evaluating(learner), torch.no_grad():
        for batch in batches:
            answers.append(learner.answer(batch.image, batch.group))
            label.append(batch.label)
            attributes.append(batch.attributes)
    if not label:
        raise DataError("there is nothing to evaluate: the split is empty. Check the data set's split column.")
    return Evaluation(
        label=torch.cat(label).cpu(),
        attributes=torch.cat(attributes).cpu(),
        logits=torch.cat([answer.logits for answer in answers]).cpu(),
        prediction=torch.cat([answer.prediction for answer in answers]).cpu(),
        head=_joined([answer.head for answer in answers], 0),
        heads=_joined([answer.heads for answer in answers], 1),
    )


def _joined(parts: list[Tensor | None], dim: int) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known, dim).cpu() if known else None
