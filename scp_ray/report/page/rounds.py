"""Every round of every arm and seed with its evidence, and their means over seeds: the numbers behind the curves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.yardstick import baselines_of, gaps_of

_EVIDENCE = ("floor_mean", "floor_low", "floor_high", "p", "low", "high")
_PLAIN = ("channels_left", "seconds", "stop_reason", "val_n", "peak_memory_mb")


def round_rows(sweep: Sweep) -> pd.DataFrame:
    """A row per arm, seed and round that the arm asked for.

    Columns arm, seed, trial_id, base_id, vanilla_id, round, f1 with f1_low and f1_high (95 % interval of the images),
    and per gap: ``<gap>``, ``_floor_mean``, ``_floor_low``, ``_floor_high``, ``_p``, ``_low``, ``_high``,
    ``fate_<gap>_<baseline>`` and its noise floor ``fate_<gap>_<baseline>_floor_low`` and ``_high``: where FATE would
    lie were the model fair, F1_m / F1_b - floor_m / gap_b. NaN where the ledger has no evidence. ``vanilla_f1`` and
    ``vanilla_<gap>`` are the vanilla model's of the same seed.
    """
    trials = sweep.trials[["arm", "seed", "trial_id", "base_id", "vanilla_id", "rounds_asked"]]
    told = sweep.rounds
    gaps, baselines = gaps_of(told), baselines_of(told)
    fates = [f"fate_{gap}_{name}" for gap in gaps for name in baselines]
    metrics = ["f1", *gaps, *fates]
    kept = ["trial_id", "round", *(f"val_{name}" for name in metrics), *(name for name in _PLAIN if name in told)]
    rows = trials.merge(told[kept].rename(columns={f"val_{name}": name for name in metrics}), on="trial_id")
    rows = rows[rows["round"] <= rows["rounds_asked"]].reset_index(drop=True)
    for name in ("f1", *gaps):
        rows = rows.merge(_evidence(sweep, name), on=["trial_id", "round"], how="left")
    starts = {"base": _starts(rows, gaps), "vanilla": _vanilla(sweep, rows, gaps)}
    rows = rows.join(starts["vanilla"].add_prefix("vanilla_"))
    for name in baselines:
        for gap in gaps:
            _fate_floor_(rows, starts[name], gap, name)
    return rows


def _evidence(sweep: Sweep, metric: str) -> pd.DataFrame:
    found = sweep.evidence
    found = found[(found["metric"] == metric) & (found["split"] == "val")]
    columns = _EVIDENCE if metric != "f1" else ("low", "high")
    return found[["trial_id", "round", *columns]].rename(columns={name: f"{metric}_{name}" for name in columns})


def _starts(rows: pd.DataFrame, gaps: list[str]) -> pd.DataFrame:
    """F1 and gaps of each row's own round 0."""
    first = rows[rows["round"] == 0].drop_duplicates("trial_id").set_index("trial_id")[["f1", *gaps]]
    return first.reindex(rows["trial_id"]).reset_index(drop=True)


def _vanilla(sweep: Sweep, rows: pd.DataFrame, gaps: list[str]) -> pd.DataFrame:
    """F1 and gaps of each row's vanilla model."""
    names = {f"val_{name}": name for name in ("f1", *gaps)}
    if not len(sweep.bases):
        return pd.DataFrame(np.nan, index=rows.index, columns=list(names.values()))
    first = sweep.bases.drop_duplicates("base_id").set_index("base_id")[list(names)].rename(columns=names)
    return first.reindex(rows["vanilla_id"]).reset_index(drop=True)


def _fate_floor_(rows: pd.DataFrame, start: pd.DataFrame, gap: str, baseline: str) -> None:
    share = rows["f1"] / start["f1"].where(start["f1"] > 0)
    divisor = start[gap].where(start[gap] > 0)
    rows[f"fate_{gap}_{baseline}_floor_low"] = share - rows[f"{gap}_floor_high"] / divisor  # the larger gap is lower
    rows[f"fate_{gap}_{baseline}_floor_high"] = share - rows[f"{gap}_floor_low"] / divisor


def curve_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per arm and round of ``round_rows``, in the arms' order.

    ``seeds`` counts the trials that have reached it; of each measure the mean over seeds under its own name, of F1,
    gaps and FATE the sample standard deviation as ``_std`` (one seed has none: NaN), of p the median. Means of FATE
    are over the seeds where it is defined; ``undefined_<fate>`` counts the others.
    """
    measured = [name for name in rows.columns if rows[name].dtype.kind == "f" and name not in ("seconds", "val_n")]
    measured += [name for name in ("channels_left",) if name in rows and name not in measured]
    shown = [name for name in measured if not name.endswith(("_low", "_high", "_p", "_floor_mean"))]
    shown = [name for name in shown if name not in ("channels_left", "peak_memory_mb")]
    groups = rows.groupby(["arm", "round"], sort=False)
    table = groups.size().rename("seeds").to_frame().join(groups[measured].mean())
    table = table.join(groups[shown].std().add_suffix("_std"))
    chances = [name for name in measured if name.endswith("_p")]
    table[chances] = groups[chances].median()
    for name in shown:
        if name.startswith("fate_"):
            table[f"undefined_{name}"] = table["seeds"] - groups[name].count()
    order = {arm: place for place, arm in enumerate(dict.fromkeys(rows["arm"]))}
    return table.reset_index().sort_values(["arm", "round"], key=lambda c: c.map(order) if c.name == "arm" else c)
