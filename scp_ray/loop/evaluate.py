"""Ask a learner about a whole split."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from scp_ray.errors import DataError
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, Evaluation, Learner


def evaluate(learner: Learner, batches: Iterable[Batch]) -> Evaluation:
    """Eval mode, no gradient; predictions are decided in float32. The learner's mode is restored."""
    label, attributes, logits, prediction = [], [], [], []
    with evaluating(learner), torch.no_grad():
        for batch in batches:
            answer, decided = learner.predict(batch.image, batch.group)
            label.append(batch.label)
            attributes.append(batch.attributes)
            logits.append(answer)
            prediction.append(decided)
    if not label:
        raise DataError("there is nothing to evaluate: the split is empty. Check the data set's split column.")
    return Evaluation(*(torch.cat(part).cpu() for part in (label, attributes, logits, prediction)))
