"""Tables behind the figures, and the words that have to stand beside them."""

from __future__ import annotations

import pandas as pd

from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep

_MEASURES = {"f1": "val_f1", "eodd": "val_eodd", "fate": "val_fate_eodd_base"}


def fate_table(sweep: Sweep) -> pd.DataFrame:
    """A row per arm and round: mean and sample standard deviation over seeds of F1, Eodd and FATE (validation).

    ``seeds`` counts the trials that have reached the round, ``undefined`` those whose FATE is NaN there (the
    base's gap is 0); means are over the others. One seed has no standard deviation: NaN.

    Raises LedgerError where no round has been recorded yet.
    """
    if not len(sweep.rounds):
        raise LedgerError(f"{sweep.ledger.root} has no rounds yet. See scp-ray status {sweep.ledger.root}")
    rows = _rounds_of_arms(sweep)
    groups = rows.groupby(["arm", "round"], sort=False)
    table = groups.size().rename("seeds").to_frame()
    for name, column in _MEASURES.items():
        table[f"{name}_mean"] = groups[column].mean()
        table[f"{name}_std"] = groups[column].std()
    table["undefined"] = groups[_MEASURES["fate"]].apply(lambda values: int(values.isna().sum()))
    order = {arm: position for position, arm in enumerate(dict.fromkeys(sweep.trials["arm"]))}
    return table.reset_index().sort_values(["arm", "round"], key=lambda c: c.map(order) if c.name == "arm" else c)


def fate_points(sweep: Sweep) -> pd.DataFrame:
    """A row per arm, seed and round: columns arm, round, fate."""
    rows = _rounds_of_arms(sweep)
    return rows.rename(columns={_MEASURES["fate"]: "fate"})[["arm", "round", "fate"]]


def _rounds_of_arms(sweep: Sweep) -> pd.DataFrame:
    """A row per arm, seed and round that the arm asked for: a trial that arms share may have more."""
    rows = sweep.trials[["arm", "trial_id", "rounds_asked"]].merge(sweep.rounds, on="trial_id")
    return rows[rows["round"] <= rows["rounds_asked"]]


def format_table(table: pd.DataFrame) -> str:
    """For the terminal: mean and standard deviation in one cell."""
    shown = pd.DataFrame({"arm": table["arm"], "round": table["round"], "seeds": table["seeds"]})
    for name, title in (("f1", "F1"), ("eodd", "Eodd"), ("fate", "FATE of Eodd")):
        pairs = zip(table[f"{name}_mean"], table[f"{name}_std"], strict=True)
        shown[title] = ["undefined" if m != m else f"{m:.4f}" + (f" ± {s:.4f}" if s == s else "") for m, s in pairs]
    return shown.to_string(index=False)


def caption(sweep: Sweep) -> str:
    """What a reader has to know to read the figure."""
    images = sorted({int(n) for n in sweep.rounds["val_n"]})
    seeds = sorted({int(seed) for seed in sweep.trials["seed"]})
    rules = sorted({arm["config"]["select"] for arm in sweep.definition["arms"]})
    return (
        f"Validation split, n = {', '.join(map(str, images))} images; seeds {', '.join(map(str, seeds))}; "
        "FATE of Eodd against each trial's own round 0 (higher is better); lines: means over seeds, bars: ± 1 "
        f"standard deviation, dots: single seeds; selection rule: {', '.join(rules)} (all rounds are shown). "
        "No noise floor is drawn: whether a difference is real cannot be read from this figure."
    )
