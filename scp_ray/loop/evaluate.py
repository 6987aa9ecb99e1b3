"""Ask a learner about a whole split."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from scp_ray.errors import DataError, DivergedError
from scp_ray.modes import evaluating
from scp_ray.parts import Answer, Batch, Evaluation, Learner


def evaluate(learner: Learner, batches: Iterable[Batch]) -> Evaluation:
    """Eval mode, no gradient; predictions are decided in float32. The learner's mode is restored.

    Where memory does not take a whole batch it is asked in halves, as often as needed: in eval mode samples do not see
    each other, so the answers are the same up to rounding. Raises DivergedError where they are not finite.
    """
    label, attributes, answers = [], [], []
    at_once = None
    with evaluating(learner), torch.no_grad():
        for batch in batches:
            given, at_once = _ask(learner, batch, at_once)
            answers += given
            label.append(batch.label)
            attributes.append(batch.attributes)
    if not label:
        raise DataError("there is nothing to evaluate: the split is empty. Check the data set's split column.")
    logits = torch.cat([answer.logits for answer in answers]).cpu()
    if broken := int((~logits.isfinite()).any(1).sum()):
        raise DivergedError(
            f"the network's answers to {broken:,} of {len(logits):,} images are not finite: its training has diverged. "
            "Try a lower lr (train.lr of a base model, fine_tune.lr of a trial)."
        )
    return Evaluation(
        label=torch.cat(label).cpu(),
        attributes=torch.cat(attributes).cpu(),
        logits=logits,
        prediction=torch.cat([answer.prediction for answer in answers]).cpu(),
        head=_joined([answer.head for answer in answers], 0),
        heads=_joined([answer.heads for answer in answers], 1),
        at_once=at_once,
    )


def _ask(learner: Learner, batch: Batch, at_once: int | None) -> tuple[list[Answer], int | None]:
    """The answers in order, and how many images were asked at a time where it was not the whole batch."""
    size = min(at_once or len(batch.label), len(batch.label))
    while True:
        try:
            parts = zip(torch.split(batch.image, size), torch.split(batch.group, size), strict=True)
            return [learner.answer(image, group) for image, group in parts], at_once
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        at_once = size = -(-size // 2)  # here, where the error and the tensors that it holds are gone


def _joined(parts: list[Tensor | None], dim: int) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known, dim).cpu() if known else None
