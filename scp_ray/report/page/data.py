"""The numbers that the page's script draws and looks up, each once."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.page.markup import columnar, plain
from scp_ray.report.page.progress import Progress
from scp_ray.report.page.rounds import curve_rows
from scp_ray.report.page.words import images_of, rules_of, seeds_of
from scp_ray.report.search_result import SearchResult
from scp_ray.report.yardstick import GAP_TITLES, Yardstick, baselines_of, gaps_of


def page_data(
    sweep: Sweep,
    rows: pd.DataFrame,
    arms: pd.DataFrame,
    yardstick: Yardstick,
    result: SearchResult | None,
    progress: Progress,
) -> dict[str, Any]:
    """Arms are named by their place in ``sweep.definition``, trials by their place in ``ids``.

    Args:
        sweep: the sweep.
        rows: its ``round_rows``.
        arms: its ``ranked`` arms.
        yardstick: what the curves show first.
        result: its trade-offs, where there are any yet.
        progress: of it.
    """
    labels = [str(arm["label"]) for arm in sweep.definition["arms"]]
    place = {label: at for at, label in enumerate(labels)}
    ids = list(dict.fromkeys(sweep.trials["trial_id"]))
    known = {trial_id: at for at, trial_id in enumerate(ids)}
    gaps, baselines = gaps_of(sweep.rounds), baselines_of(sweep.rounds)
    return {
        "images": f"validation, {images_of(sweep)} images, seeds {seeds_of(sweep)}",
        "select": rules_of(sweep),
        "arms": {"label": labels, "settings": [_settings(arm) for arm in sweep.definition["arms"]]},
        "ranked": [place[arm] for arm in arms["arm"]],
        "gaps": [{"name": gap, "title": GAP_TITLES[gap]} for gap in gaps],
        "baselines": baselines,
        "yardstick": {"gap": yardstick.gap, "baseline": yardstick.baseline},
        "ids": ids,
        "trials": _trials(sweep, place, known),
        "rounds": columnar(_rounds(rows, known, gaps, baselines)),
        "curves": columnar(_curves(rows, place, gaps, baselines)),
        "plane": _plane(result, rows, sweep, place),
        "failures": {key: _failure(failure) for key, failure in progress.failures.items()},
    }


def _settings(arm: dict[str, Any]) -> dict[str, str]:
    return {str(path): str(value) for path, value in arm["settings"].items()}


def _failure(failure: dict[str, Any]) -> dict[str, str]:
    return {name: str(failure.get(name, "")) for name in ("label", "kind", "reason", "rerun")}


def _trials(sweep: Sweep, place: dict[str, int], known: dict[str, int]) -> dict[str, list[Any]]:
    trials = sweep.trials
    frame = pd.DataFrame({"arm": trials["arm"].map(place), "trial": trials["trial_id"].map(known)})
    for name in ("seed", "base_id", "status", "rounds_done", "rounds_asked"):
        frame[name] = trials[name]
    frame["selected"] = trials["selected_round"]
    return columnar(frame)


def _rounds(rows: pd.DataFrame, known: dict[str, int], gaps: list[str], baselines: list[str]) -> pd.DataFrame:
    """Of each trial once, however many arms it answers."""
    once = rows.drop_duplicates(["trial_id", "round"])
    names = ["f1", "f1_low", "f1_high"]
    for gap in gaps:
        names += [gap, *(f"{gap}_{part}" for part in ("floor_mean", "floor_low", "floor_high", "p", "low", "high"))]
        names += [f"fate_{gap}_{baseline}" for baseline in baselines]
    names += [name for name in ("channels_left", "seconds", "stop_reason") if name in once]
    frame = once[["round", *names]].reset_index(drop=True)
    frame.insert(0, "trial", once["trial_id"].map(known).to_numpy())
    return frame.sort_values(["trial", "round"], kind="stable")


def _curves(rows: pd.DataFrame, place: dict[str, int], gaps: list[str], baselines: list[str]) -> pd.DataFrame:
    table = curve_rows(rows)
    names = ["round", "seeds", "f1", "f1_std"]
    for gap in gaps:
        names += [gap, *(f"{gap}_{part}" for part in ("std", "floor_mean", "floor_low", "floor_high", "p"))]
        for baseline in baselines:
            fate = f"fate_{gap}_{baseline}"
            names += [fate, f"{fate}_std", f"{fate}_floor_low", f"{fate}_floor_high", f"undefined_{fate}"]
    names += [name for name in ("channels_left",) if name in table]
    frame = table[names].reset_index(drop=True)
    frame.insert(0, "arm", table["arm"].map(place).to_numpy())
    return frame


def _plane(
    result: SearchResult | None, rows: pd.DataFrame, sweep: Sweep, place: dict[str, int]
) -> dict[str, Any] | None:
    """Every whole arm in the plane of the sweep's objectives, with the noise floor of those that are gaps."""
    if result is None:
        return None
    table = result.configurations
    frame = pd.DataFrame({"arm": table["arm"].map(place), "seeds": table["seeds"], "rounds": table["rounds"]})
    trials = sweep.trials[["arm", "trial_id", "selected_round"]].rename(columns={"selected_round": "round"})
    chosen = trials.merge(rows, on=["arm", "trial_id", "round"]).groupby("arm")
    objectives = []
    for part in result.objectives:
        name = part.metric.removeprefix("val_")
        frame[name], frame[f"{name}_low"] = table[part.metric], table[f"{part.metric}_low"]
        frame[f"{name}_high"] = table[f"{part.metric}_high"]
        if f"{name}_floor_mean" in rows:
            for end in ("mean", "low", "high"):
                frame[f"{name}_floor_{end}"] = table["arm"].map(chosen[f"{name}_floor_{end}"].mean())
        before = plain(result.before[part.metric])
        objectives.append({"name": name, "title": part.title, "best": part.direction, "before": before})
    for name in ("front", "near_front", "knee", "feasible"):
        frame[name] = table[name].astype(bool)
    return {"objectives": objectives, "points": columnar(frame)}
