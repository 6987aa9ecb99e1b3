"""What a round leaves behind, as tables."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from scp_ray.maths.fate import fate, fate_reason
from scp_ray.maths.gaps import GAPS
from scp_ray.maths.report import FairnessReport

if TYPE_CHECKING:
    from scp_ray.config import ResolvedTrial, TrialConfig
    from scp_ray.parts import ChannelScores, Evaluation, FairnessData
    from scp_ray.trial import Result


def base_row(config: TrialConfig, base_id: str, result: Result, device: str) -> dict[str, Any]:
    """Round 0 of a base model: its configuration, metrics and circumstances."""
    row: dict[str, Any] = {"trial_id": "", "base_id": base_id, "round": 0, "from_base": False}
    row |= {
        "dataset": config.dataset.plugin_name,
        "backbone": config.backbone.title,
        "method": config.method.plugin_name,
        "seed": config.seed,
        "num_classes": len(config.dataset.class_names),
    }
    return row | _outcome(result) | _circumstances(result, device)


def copied_row(trial: ResolvedTrial, base: dict[str, Any], vanilla: FairnessReport) -> dict[str, Any]:
    """A trial's round 0: its base's row under its own configuration."""
    row = base | trial_columns(trial) | {"round": 0, "from_base": True}
    row |= {"channels_pruned": [], "channels_left": trial.layer.channels, "stop_reason": "", "stopped": False}
    return row | _fates(row, base, vanilla)


def round_row(
    trial: ResolvedTrial, base: dict[str, Any], vanilla: FairnessReport, result: Result, device: str
) -> dict[str, Any]:
    """A trial's round from 1 on. ``base`` is the row of its base model's round 0."""
    step = result.round
    assert step is not None
    row = {key: base[key] for key in ("dataset", "backbone", "method", "seed", "num_classes")} | trial_columns(trial)
    row |= {
        "round": result.index,
        "from_base": False,
        "channels_pruned": list(step.channels),
        "channels_left": int(step.keep.sum()),
        "stop_reason": step.stop_reason,
        "stopped": step.stopped,
    }
    row |= _outcome(result) | _circumstances(result, device)
    return row | _fates(row, base, vanilla)


def trial_columns(trial: ResolvedTrial) -> dict[str, Any]:
    """What tells a trial from others in a table; sweep.json holds its whole configuration."""
    return {
        "trial_id": trial.trial_id,
        "base_id": trial.base_id,
        "vanilla_id": trial.vanilla_id,
        "criterion": trial.config.criterion.plugin_name,
        "pr_c": trial.config.pr_c,
        "k": trial.k,
        "layer": trial.layer.index,
        "layer_name": trial.layer.name,
    }


def _outcome(result: Result) -> dict[str, Any]:
    return result.val.report.as_row("val_") | {f"train_{name}": value for name, value in result.means.items()}


def _circumstances(result: Result, device: str) -> dict[str, Any]:
    return {
        "seconds": sum(result.seconds.values()),
        **{f"seconds_{name}": value for name, value in result.seconds.items()},
        "peak_memory_mb": result.peak_memory_mb,
        "micro_batch": result.micro_batch,
        "eval_batch": min((part.at_once for part in (result.val, result.test) if part.at_once), default=None),
        "node": platform.node(),
        "device": device,
        "threads": torch.get_num_threads(),
        "time": time.time(),
    }


def _fates(row: dict[str, Any], base: dict[str, Any], vanilla: FairnessReport) -> dict[str, Any]:
    """FATE of every gap against the trial's own round 0 and against the vanilla model; why, where undefined."""
    columns: dict[str, Any] = {}
    reasons = []
    for gap in GAPS:
        baselines = {
            "base": (base["val_f1"], base[f"val_{gap}"]),
            "vanilla": (vanilla.f1_mean, vanilla.gap(gap)),
        }
        for name, (f1_baseline, gap_baseline) in baselines.items():
            numbers = {"f1_baseline": f1_baseline, "gap_baseline": gap_baseline}
            columns[f"val_fate_{gap}_{name}"] = fate(row["val_f1"], row[f"val_{gap}"], **numbers)
            reason = fate_reason(row["val_f1"], row[f"val_{gap}"], **numbers)
            if reason:
                reasons.append(f"{gap}_{name}: {reason}")
    return columns | {"fate_reason": "; ".join(reasons)}


def rows_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table with fixed types for what may be empty."""
    table = pa.Table.from_pylist(list(rows))
    fixed = {"channels_pruned": pa.list_(pa.int32()), "pr_c": pa.float64()}
    fixed |= {"micro_batch": pa.int32(), "eval_batch": pa.int32()}  # empty where memory took whole batches
    for name, kind in fixed.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    return table


def channels_table(index: int, scores: ChannelScores, channels: Sequence[int], keep: Any) -> pa.Table:
    """A row per channel of one round: its score and p-value, whether it went in this round, whether it is left."""
    count = len(scores.scores)
    pruned = np.zeros(count, dtype=bool)
    pruned[list(channels)] = True
    return pa.table(
        {
            "round": np.full(count, index, dtype=np.int32),
            "channel": np.arange(count, dtype=np.int32),
            "score": np.asarray(scores.scores, dtype=np.float32),
            "p": np.full(count, np.nan) if scores.p is None else np.asarray(scores.p, dtype=np.float64),
            "pruned": pruned,
            "kept": np.asarray(keep, dtype=bool),
        }
    )


def predictions_table(index: int, data: FairnessData, outputs: dict[str, Evaluation]) -> pa.Table:
    """A row per image of each split: who it is, what is true, what was said."""
    parts = []
    for name, answer in outputs.items():
        split, count = data.splits[name], len(answer.label)
        columns: dict[str, Any] = {
            "round": np.full(count, index, dtype=np.int32),
            "split": [name] * count,
            "id": list(split.id),
            "unit": list(split.unit),
            "label": answer.label.numpy().astype(np.int16),
        }
        for position, attribute in enumerate(data.attribute_names):
            columns[attribute] = answer.attributes[:, position].numpy().astype(np.int16)
        columns["prediction"] = answer.prediction.numpy().astype(np.int16)
        if answer.head is not None:
            columns["head"] = answer.head.numpy().astype(np.int16)
        # beyond float16's range a logit is its largest number: only calibration analysis reads these
        half = answer.logits.numpy().clip(-65504, 65504).astype(np.float16)
        columns["logits"] = pa.FixedSizeListArray.from_arrays(pa.array(half.ravel()), half.shape[1])
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
