"""Whether an exported model answers as the masked one does, image by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from scp_ray.data.batches import FixedBatches
from scp_ray.errors import LedgerError
from scp_ray.export.cost import Call
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, FairnessData, Learner
from scp_ray.seeds import derive_seed

TOLERANCE = 1e-5
IMAGES, BATCH = 256, 32  # of validation, drawn once and for all
# a model on another kind of device may decide a tie otherwise; one that differs in more is not the ledger's
AGREE_LEAST = 0.99


@dataclass(frozen=True)
class Agreement:
    """Of the exported with the masked model's logits, and of the masked one with the ledger's predictions."""

    images: int
    largest: float  # |exported - masked| of any logit
    predictions: int  # images whose predicted class is the same
    ledger: int  # images whose class is also what the ledger holds of this round


def validation_rows(count: int) -> Tensor:
    """(M,) rows of validation that are asked: all, or IMAGES of them, the same ones every time."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(0, "export")))
    return order[:IMAGES].sort().values


def masked_answers(learner: Learner, data: FairnessData, stored: pd.DataFrame) -> tuple[Tensor, int]:
    """Logits (M, K) of the masked learner on ``validation_rows``, and how many predictions are the ledger's.

    Args:
        stored: the ledger's predictions of this round on validation, with ``id`` and ``prediction``.

    Raises LedgerError where hardly any is: then the weights are another round's, or the images other ones.
    """
    rows, logits = validation_rows(len(data.splits["val"])), []
    with evaluating(learner), torch.no_grad():
        logits = [learner.predict(batch.image, batch.group)[0] for batch in batches(data)]
    found = torch.cat(logits)
    known = dict(zip(stored["id"], stored["prediction"], strict=True))
    names = [data.splits["val"].id[row] for row in rows.tolist()]
    agree = sum(known.get(name) == said for name, said in zip(names, found.argmax(1).tolist(), strict=True))
    if agree < AGREE_LEAST * len(names):
        raise LedgerError(
            f"the model says of {len(names) - agree} of {len(names)} validation images something else than the "
            "ledger's predictions of the same round. Its weights, or the images on this machine, are other ones: run "
            "scp-ray data check, and export from the machine that ran the sweep."
        )
    return found, agree


def batches(data: FairnessData) -> Iterable[Batch]:
    """Of the images that are asked."""
    split = data.splits["val"]
    return FixedBatches(split, validation_rows(len(split)), BATCH)


def compare(call: Call, needs_group: bool, data: FairnessData, masked: Tensor, agree: int, what: str) -> Agreement:
    """Raises LedgerError where any logit differs by more than TOLERANCE (of 1 + its size), before anything is kept."""
    with torch.no_grad():
        exported = torch.cat([call(*given) for given in _inputs(data, needs_group)])
    difference = (exported - masked).abs()
    worst = float((difference / (1 + masked.abs())).max())
    if not worst <= TOLERANCE:  # NaN too
        raise LedgerError(
            f"{what}: its logits on {len(masked)} validation images differ from the masked model's by up to "
            f"{float(difference.max()):.2g} (relative to 1 + |logit|: {worst:.2g}; allowed is {TOLERANCE:g}). Nothing "
            "was written. Try it without --compact, or another --format."
        )
    same = int((exported.argmax(1) == masked.argmax(1)).sum())
    return Agreement(len(masked), float(difference.max()), same, agree)


def _inputs(data: FairnessData, needs_group: bool) -> Iterator[tuple[Tensor, ...]]:
    for batch in batches(data):
        yield (batch.image, batch.group) if needs_group else (batch.image,)
