"""The result of a search: its trade-offs on validation with intervals, and what stands out among them.

It reads the ledger alone, and works for any sweep: a grid's arms are its configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from scp_ray.config.objectives import Constraint, Objective
from scp_ray.errors import LedgerError
from scp_ray.ledger import Sweep
from scp_ray.maths.hypervolume import hypervolume
from scp_ray.maths.pareto import knee, nondominated
from scp_ray.report.objectives import constraints_of, objectives_of, seed_rows, slack_of

LEVEL = 0.95


STOPPED = "stopped early by the search"


class NothingWholeError(LedgerError):
    """No configuration has all of its seeds yet."""


@dataclass(frozen=True)
class SearchResult:
    """What a search has found so far, on validation."""

    objectives: list[Objective]
    constraints: list[Constraint]
    configurations: pd.DataFrame  # a row per configuration; see ``_configurations``
    best: pd.DataFrame  # of each objective under each constraint
    volumes: pd.DataFrame  # number, hypervolume: after each configuration
    reference: dict[str, float]  # the corner of the hypervolume: the worst seen in each objective
    before: dict[str, float]  # means of round 0, over the base models that the configurations start from
    left_out: dict[str, int]  # why configurations are not among them, and how many

    @property
    def tried(self) -> int:
        """How many configurations the best was selected from: what was stopped early has lost to the others."""
        return len(self.configurations) + self.left_out.get(STOPPED, 0)

    @property
    def front(self) -> pd.DataFrame:
        """The configurations that no other one beats in all objectives."""
        return self.configurations[self.configurations["front"]]


def search_result(sweep: Sweep) -> SearchResult:
    """Read a sweep as a search. Raises NothingWholeError where no configuration is whole yet."""
    objectives, constraints = objectives_of(sweep.definition), constraints_of(sweep.definition)
    rows = seed_rows(sweep)
    missing = [
        name
        for name in (*(part.metric for part in objectives), *(limit.metric for limit in constraints))
        if name not in rows
    ]
    if missing:
        raise LedgerError(f"{sweep.ledger.root} has no column {missing[0]!r} in its rounds, which it was searched by.")
    whole, left_out = _whole(sweep, rows)
    table = _configurations(sweep, whole, objectives, constraints)
    undefined = table[[part.metric for part in objectives]].isna().any(axis=1)
    if undefined.any():
        left_out["an objective is undefined"] = int(undefined.sum())
        table = table[~undefined].reset_index(drop=True)
    if not len(table):
        reasons = "; ".join(f"{count}: {why}" for why, count in left_out.items())
        raise NothingWholeError(
            f"{sweep.ledger.root} has no configuration whose seeds are all done ({reasons}). "
            f"See scp-ray status {sweep.ledger.root}"
        )
    costs = _costs(table, objectives)
    start = _before(whole, objectives)
    base_costs = np.array([[part.sign * start[part.metric] for part in objectives]])
    known = np.concatenate([costs, base_costs[~np.isnan(base_costs).any(axis=1)]])
    corner = known.max(axis=0)
    return SearchResult(
        objectives,
        constraints,
        table,
        _best(table, objectives, constraints),
        _volumes(table, costs, corner),
        {part.metric: float(part.sign * worst) for part, worst in zip(objectives, corner, strict=True)},
        start,
        left_out,
    )


def _whole(sweep: Sweep, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows of configurations that have all their seeds, and why the others do not count."""
    states = {arm["label"]: arm.get("search", {}).get("state") for arm in sweep.definition["arms"]}
    reasons = {}
    for arm, status in sweep.trials.groupby("arm", sort=False)["status"]:
        if states.get(arm) == "PRUNED":
            reasons[arm] = STOPPED
        elif states.get(arm) == "FAIL" or (status == "failed").any():
            reasons[arm] = "a seed failed"
        elif (status != "done").any():
            reasons[arm] = "not finished"
    counts = pd.Series(list(reasons.values()), dtype=object).value_counts()
    return rows[~rows["arm"].isin(list(reasons))], {str(why): int(count) for why, count in counts.items()}


def _configurations(
    sweep: Sweep, rows: pd.DataFrame, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> pd.DataFrame:
    """A row per configuration, in the order they came.

    ``number`` is Optuna's (of a grid the place, from 1); ``<objective>`` the mean over seeds, ``_low`` and ``_high``
    its interval; ``feasible`` whether it keeps every constraint, with ``keeps: <constraint>`` for each; ``front``
    whether no feasible one dominates it; ``near_front`` whether none does beyond the intervals; ``knee``.
    """
    arms = {arm["label"]: (at, arm) for at, arm in enumerate(sweep.definition["arms"])}
    groups = rows.groupby("arm", sort=False)
    table = pd.DataFrame({"seeds": groups.size()})
    axes = list(dict.fromkeys(axis for _, arm in arms.values() for axis in arm["settings"] if axis in rows))
    table = table.join(groups[axes].first()) if axes else table
    table["rounds"] = groups["selected_round"].agg(lambda chosen: " ".join(f"{index:.0f}" for index in chosen))
    for part in objectives:
        table[part.metric] = groups[part.metric].agg(lambda values: values.mean(skipna=False))
        half = _half_widths(rows, part.metric, table["seeds"])
        table[f"{part.metric}_low"], table[f"{part.metric}_high"] = table[part.metric] - half, table[part.metric] + half
    for limit in constraints:
        slack = slack_of(limit, rows).groupby(rows["arm"], sort=False).agg(lambda values: values.mean(skipna=False))
        table[_keeps(limit)] = slack >= 0
    table["feasible"] = table[[_keeps(limit) for limit in constraints]].all(axis=1)
    table = table.reset_index()
    places = [arms[arm] for arm in table["arm"]]
    table.insert(0, "number", [arm.get("search", {}).get("number", at + 1) for at, arm in places])
    table = table.sort_values("number", kind="stable").reset_index(drop=True)
    return table.assign(**_standing(table, objectives))


def _keeps(limit: Constraint) -> str:
    return f"keeps: {limit.text}"


def _half_widths(rows: pd.DataFrame, name: str, seeds: pd.Series) -> pd.Series:
    """Half of each mean's 95 % interval: t, with the variance over seeds pooled over configurations; else NaN."""
    own = rows.drop_duplicates(["trial_id", "selected_round"])  # arms that share a trial are no new draws
    groups = own.groupby("arm")[name]
    freedom = int((groups.count() - 1).clip(lower=0).sum())
    if not freedom:
        return pd.Series(float("nan"), seeds.index)
    spread = np.sqrt(float(((own[name] - groups.transform("mean")) ** 2).sum()) / freedom)
    half: pd.Series = spread * student.ppf((1 + LEVEL) / 2, freedom) / np.sqrt(seeds)
    return half


def _standing(table: pd.DataFrame, objectives: Sequence[Objective]) -> dict[str, Any]:
    """front, near_front and knee of every row; only feasible ones stand on a front, or keep others from it."""
    costs = np.where(table[["feasible"]], _costs(table, objectives), np.nan)
    front = nondominated(costs)
    half = np.stack(
        [(table[f"{part.metric}_high"] - table[part.metric]).to_numpy(float) for part in objectives], axis=1
    )
    # of a difference between two means; without replicates nothing can be told apart
    doubt = np.sqrt(half[:, None] ** 2 + half[None, :] ** 2)
    beaten = (costs[:, None] + doubt < costs[None, :]).all(axis=2).any(axis=0)
    bent = np.zeros(len(table), dtype=bool)
    at = knee(np.where(front[:, None], costs, np.nan))
    if at is not None:
        bent[at] = True
    return {"front": front, "near_front": table["feasible"].to_numpy(bool) & ~beaten, "knee": bent}


def _costs(table: pd.DataFrame, objectives: Sequence[Objective]) -> NDArray[np.float64]:
    return np.stack([part.sign * table[part.metric].to_numpy(float) for part in objectives], axis=1)


def _best(table: pd.DataFrame, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> pd.DataFrame:
    """The best configuration in each objective: of all, of those that keep one constraint, of the feasible ones."""
    scopes = {"none": pd.Series(True, table.index)} | {c.text: table[_keeps(c)] for c in constraints}
    if len(constraints) > 1:
        scopes["all constraints"] = table["feasible"]
    found = []
    for scope, keeps in scopes.items():
        for part in objectives:
            row: dict[str, Any] = {"constraint": scope, "objective": part.metric, "configurations": int(keeps.sum())}
            if keeps.any():
                kept = table[keeps]
                winner = kept.iloc[int((part.sign * kept[part.metric]).to_numpy().argmin())]
                named = {"value": part.metric, "low": f"{part.metric}_low", "high": f"{part.metric}_high"}
                row |= {"number": winner["number"], "arm": winner["arm"], "seeds": winner["seeds"]}
                row |= {title: winner[column] for title, column in named.items()}
            found.append(row)
    return pd.DataFrame(found)


def _before(rows: pd.DataFrame, objectives: Sequence[Objective]) -> dict[str, float]:
    once = rows.drop_duplicates(["base_id", "vanilla_id"])
    return {part.metric: float(once[f"base:{part.metric}"].mean(skipna=False)) for part in objectives}


def _volumes(table: pd.DataFrame, costs: NDArray[np.float64], corner: NDArray[np.float64]) -> pd.DataFrame:
    kept = np.where(table[["feasible"]], costs, np.nan)
    volumes = [hypervolume(kept[: upto + 1], corner) for upto in range(len(table))]
    return pd.DataFrame({"number": table["number"], "configurations": range(1, len(table) + 1), "hypervolume": volumes})
