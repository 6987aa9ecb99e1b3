"""Tables behind the figures, and the words that have to stand beside them."""

from __future__ import annotations

import pandas as pd

from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep
from scp_ray.report.recorded import Recorded

_MEASURES = {"f1": "val_f1", "eodd": "val_eodd", "fate": "val_fate_eodd_base"}
_EVIDENCE = ("eodd_floor", "eodd_floor_low", "eodd_floor_high", "eodd_excess", "fate_floor_low", "fate_floor_high")


def fate_table(sweep: Sweep) -> pd.DataFrame:
    """A row per arm and round: mean and sample standard deviation over seeds of F1, Eodd and FATE (validation).

    ``seeds`` counts the trials that have reached the round, ``undefined`` those whose FATE is NaN there (the
    base's gap is 0); means are over the others. One seed has no standard deviation: NaN.

    ``eodd_floor``, ``_low``, ``_high``: mean over seeds of the noise floor's mean and 95 % band, ``eodd_excess`` of
    Eodd minus that mean; ``eodd_p``: the median over seeds of the permutation p-value. ``fate_floor_low``, ``_high``:
    where FATE would lie were the model fair, F1_m / F1_b - floor_m / gap_b at both ends of the band.
    ``base_within_floor`` counts the seeds whose base model's Eodd does not lie above its floor: there FATE divides by
    what chance alone would show. All NaN where the ledger has no evidence.

    Raises LedgerError where no round has been recorded yet.
    """
    if not len(sweep.rounds):
        raise LedgerError(f"{sweep.ledger.root} has no rounds yet. See scp-ray status {sweep.ledger.root}")
    return table_of_arms(sweep)


def table_of_arms(sweep: Recorded) -> pd.DataFrame:
    """``fate_table`` of rounds that there are, from wherever they were read."""
    rows = with_floors(_rounds_of_arms(sweep), sweep.evidence)
    groups = rows.groupby(["arm", "round"], sort=False)
    table = groups.size().rename("seeds").to_frame()
    for name, column in _MEASURES.items():
        table[f"{name}_mean"] = groups[column].mean()
        table[f"{name}_std"] = groups[column].std()
    table["undefined"] = groups[_MEASURES["fate"]].apply(lambda values: int(values.isna().sum()))
    for name in _EVIDENCE:
        table[name] = groups[name].mean()
    table["eodd_p"] = groups["eodd_p"].median()
    table["base_within_floor"] = groups["base_within_floor"].sum(min_count=1)
    order = {arm: position for position, arm in enumerate(dict.fromkeys(sweep.trials["arm"]))}
    return table.reset_index().sort_values(["arm", "round"], key=lambda c: c.map(order) if c.name == "arm" else c)


def with_floors(rows: pd.DataFrame, evidence: pd.DataFrame) -> pd.DataFrame:
    """Rounds of trials with the evidence on their Eodd as columns; NaN where there is none."""
    found = evidence[(evidence["metric"] == "eodd") & (evidence["split"] == "val")]
    names = {"floor_mean": "eodd_floor", "floor_low": "eodd_floor_low", "floor_high": "eodd_floor_high"}
    names |= {"p": "eodd_p", "excess": "eodd_excess"}
    rows = rows.merge(found[["trial_id", "round", *names]].rename(columns=names), on=["trial_id", "round"], how="left")
    start = rows.loc[rows["round"] == 0, ["arm", "trial_id", "val_f1", "val_eodd", "eodd_floor_high"]]
    rows = rows.merge(start, on=["arm", "trial_id"], how="left", suffixes=("", "_base"))
    gap = rows["val_eodd_base"].where(rows["val_eodd_base"] > 0)
    f1 = rows["val_f1"] / rows["val_f1_base"].where(rows["val_f1_base"] > 0)
    rows["fate_floor_low"] = f1 - rows["eodd_floor_high"] / gap  # the larger gap is the lower FATE
    rows["fate_floor_high"] = f1 - rows["eodd_floor_low"] / gap
    within = ~(rows["val_eodd_base"] > rows["eodd_floor_high_base"])
    rows["base_within_floor"] = within.astype(float).where(rows["eodd_floor_high_base"].notna())
    return rows


def fate_points(sweep: Recorded) -> pd.DataFrame:
    """A row per arm, seed and round: columns arm, round, fate."""
    rows = _rounds_of_arms(sweep)
    return rows.rename(columns={_MEASURES["fate"]: "fate"})[["arm", "round", "fate"]]


def _rounds_of_arms(sweep: Recorded) -> pd.DataFrame:
    """A row per arm, seed and round that the arm asked for: a trial that arms share may have more."""
    rows = sweep.trials[["arm", "trial_id", "rounds_asked"]].merge(sweep.rounds, on="trial_id")
    return rows[rows["round"] <= rows["rounds_asked"]]


def format_table(table: pd.DataFrame) -> str:
    """For the terminal: mean and standard deviation in one cell."""
    shown = pd.DataFrame({"arm": table["arm"], "round": table["round"], "seeds": table["seeds"]})
    for name, title in (("f1", "F1"), ("eodd", "Eodd"), ("fate", "FATE of Eodd")):
        pairs = zip(table[f"{name}_mean"], table[f"{name}_std"], strict=True)
        shown[title] = ["undefined" if m != m else f"{m:.4f}" + (f" ± {s:.4f}" if s == s else "") for m, s in pairs]
        if name == "eodd":
            shown["floor"] = [_cell(value, ".4f") for value in table["eodd_floor"]]
            shown["excess"] = [_cell(value, "+.4f") for value in table["eodd_excess"]]
            shown["p"] = [_cell(value, ".3f") for value in table["eodd_p"]]
    noise = table["base_within_floor"] > 0
    shown["FATE of Eodd"] = [f"{text}{' *' * low}" for text, low in zip(shown["FATE of Eodd"], noise, strict=True)]
    return shown.to_string(index=False)


def _cell(value: float, layout: str) -> str:
    return "-" if value != value else format(value, layout)


def notes(table: pd.DataFrame) -> list[str]:
    """What has to be said below the table."""
    said = [
        "floor: what Eodd a classifier of the same errors would show were it fair (groups permuted inside each class); "
        "excess: Eodd minus that; p: of Eodd against it; means over seeds, p the median."
    ]
    within = table[(table["round"] == 0) & (table["base_within_floor"] > 0)]
    if len(within):
        some, seeds = within["base_within_floor"].max(), within["seeds"].max()
        said.append(
            f"*: the base model's Eodd is within its noise floor in {some:.0f} of {seeds:.0f} seeds: FATE divides by "
            "what chance alone would show, and has no interval there."
        )
    if table["eodd_floor"].isna().any():
        said.append("-: no evidence; the predictions are gone, or the attribute has more than two groups.")
    return said


def caption(sweep: Recorded, *, bands: bool = False) -> str:
    """What a reader has to know to read the figure; ``bands``: whether noise floors are drawn."""
    images = sorted({int(n) for n in sweep.rounds["val_n"]})
    seeds = sorted({int(seed) for seed in sweep.trials["seed"]})
    rules = sorted({arm["config"]["select"] for arm in sweep.definition["arms"]})
    floor = (
        "shaded: where FATE would lie in 95 of 100 cases were the model fair (noise floor; means over seeds); "
        if bands
        else "no noise floor is drawn; "
    )
    return (
        f"Validation split, n = {', '.join(map(str, images))} images; seeds {', '.join(map(str, seeds))}; "
        "FATE of Eodd against each trial's own round 0 (higher is better); lines: means over seeds, bars: ± 1 "
        f"standard deviation, dots: single seeds; {floor}"
        f"selection rule: {', '.join(rules)} (all rounds are shown). "
        "Whether two arms differ is for scp-ray compare to say, not for this figure."
    )
