"""Which models stay when a sweep has ended: the front's and each arm's best, unless asked otherwise."""

from __future__ import annotations

import pandas as pd

from scp_ray.ledger.ledger import Ledger
from scp_ray.ledger.load import Sweep
from scp_ray.maths.pareto import pareto_front
from scp_ray.places import remove_tree


def selected_rounds(sweep: Sweep) -> pd.DataFrame:
    """A row per arm and seed that has begun: the trial's columns and those of its selected round."""
    begun = sweep.trials.dropna(subset=["selected_round"]) if len(sweep.trials) else sweep.trials
    if begun.empty:
        return pd.DataFrame()
    extra = [name for name in sweep.rounds.columns if name not in begun.columns]
    rows = sweep.rounds[["trial_id", *extra]]
    return begun.merge(rows, left_on=["trial_id", "selected_round"], right_on=["trial_id", "round"])


def prune_models(ledger: Ledger, keep: str) -> None:
    """``selected`` keeps every trial's model; ``front`` the Pareto front's (F1, Eodd) and each arm's best."""
    if keep != "front" or not ledger.models():  # without a model there is nothing to choose from thousands of rows
        return
    rows = selected_rounds(Sweep(ledger))
    if rows.empty:
        return
    kept = set(rows["trial_id"][pareto_front(rows["val_f1"], rows["val_eodd"])])
    best = rows.assign(fate=rows["val_fate_eodd_base"].fillna(float("-inf"))).groupby("arm")["fate"].idxmax()
    kept |= set(rows.loc[best, "trial_id"])
    for trial_id in ledger.models():
        if trial_id not in kept:
            folder = ledger.root / "models" / trial_id
            (folder / "model.json").unlink()  # first: a folder without it counts as no model
            remove_tree(folder)
