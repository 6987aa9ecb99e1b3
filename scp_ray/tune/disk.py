"""What a sweep will leave on disk."""

from __future__ import annotations

from dataclasses import dataclass

from scp_ray.tune.calibrate import Counts
from scp_ray.tune.cost import Range
from scp_ray.tune.outlook import Outlook
from scp_ray.tune.space import Job, Plan

ROW_BYTES = (10.0, 60.0)  # of a prediction beside its logits: ids and codes, compressed more or less
LOGITS = 0.7  # what compression may leave of them
LEFT = 0.4  # share of the most weights: in the end a trial keeps one state, and few models stay


@dataclass(frozen=True)
class Disk:
    """Bytes that a sweep leaves, by what they are."""

    weights: Range  # models and states at the end
    predictions: Range
    store: int  # decoded images, once on each node that lacks them

    @property
    def total(self) -> Range:
        """All of it, of one node."""
        return self.weights.plus(self.predictions).plus((self.store, self.store))


def disk_of(ahead: Outlook) -> Disk:
    """Bytes of the jobs ahead; of a search its configurations are taken to be like those that were looked at."""
    bases = [job for job in ahead.jobs if job.trial is None]
    trials = [job for job in ahead.jobs if job.trial is not None]
    share = (1.0, 1.0)
    if ahead.searches and trials:
        share = tuple(ahead.configurations * seeds / len(trials) for seeds in ahead.seeds)  # type: ignore[assignment]
    data_sets = list(dict.fromkeys(job.config.dataset for job in ahead.jobs))
    counts = {data_set: Counts.of(data_set) for data_set in data_sets}  # reads the tables: once, not once a job
    weights, predictions = Range(0, 0), Range(0, 0)
    for jobs, (least, most) in ((bases, (1.0, 1.0)), (trials, share)):
        bytes_ = Plan(tuple(jobs), (), (), 0).weight_bytes()
        weights = weights.plus((LEFT * bytes_ * least, bytes_ * most))
        rows = [_predictions(job, counts[job.config.dataset]) for job in jobs]
        predictions = predictions.plus((sum(r.low for r in rows) * least, sum(r.high for r in rows) * most))
    return Disk(weights, predictions, sum(data_set.bytes_to_store() for data_set in data_sets))


def _predictions(job: Job, counts: Counts) -> Range:
    logits = 2 * len(job.config.dataset.class_names)
    rounds = 1 if job.trial is None else max(0, job.config.rounds - job.rounds_done)
    images = rounds * (counts.val + counts.test)
    return Range(images * (logits * LOGITS + ROW_BYTES[0]), images * (logits + ROW_BYTES[1]))
