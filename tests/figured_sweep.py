"""A ledger whose numbers are all written down here: four arms, three seeds, two rounds, floors, channels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scp_ray.ledger.evidence import SCHEMA

SEEDS = (0, 1, 2)
ARMS = [(0.1, -1), (0.2, -1), (0.1, -2), (0.2, -2)]  # pr_c, layer
F1 = (0.50, 0.60, 0.56, 0.58)  # of the arms after two rounds, mean over seeds
EODD = (0.14, 0.12, 0.08, 0.09)
BASE_F1, BASE_EODD = 0.5, 0.2
F1_APART, EODD_APART = 0.01, 0.005  # between neighbouring seeds, after round 0
F1_ERROR, EODD_ERROR = 0.02, 0.01  # of every set of predictions
FLOOR = (0.05, 0.02, 0.085)  # mean, low, high of the noise floor of Eodd
HIGH = {2: 0.1}  # by arm, where its floor reaches higher
CHANNELS = 8
SCORES = (0.0, 0.3, 0.6, 0.1, 0.4, 0.7, 0.2, 0.5)  # of seed 0 before pruning
PRUNED = {1: (0, 3), 2: (6, 1)}  # by round, of seed 0; those of seed s lie s places further
GONE = 0.9  # score of a channel that is pruned


def numbers(arm: int, seed: int, index: int) -> tuple[float, float, float]:
    """F1, Eodd and FATE of a round: half of the way in round 1, all of it in round 2."""
    aside = (seed - 1) * (index > 0)
    f1 = BASE_F1 + (F1[arm] - BASE_F1) * index / 2 + F1_APART * aside
    eodd = BASE_EODD + (EODD[arm] - BASE_EODD) * index / 2 + EODD_APART * aside
    return f1, eodd, f1 / BASE_F1 - eodd / BASE_EODD


def label(arm: int) -> str:
    return f"pr_c={ARMS[arm][0]}, layer={ARMS[arm][1]}"


def make(
    root: Path,
    *,
    floor: tuple[float, float, float] = FLOOR,
    high: Mapping[int, float] = HIGH,
    evidence: bool = True,
    channels: bool = True,
    arms: tuple[int, ...] = (0, 1, 2, 3),
    seeds: tuple[int, ...] = SEEDS,
) -> Path:
    for kind in ("rounds", "evidence", "channels"):
        (root / kind).mkdir(parents=True)
    for seed in seeds:
        folder = root / "bases" / f"b{seed}"
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([_row("", 0, seed, 0)]), folder / "rounds.parquet")
        if evidence:
            pq.write_table(_evidence(0, seed, [0], floor, {}), folder / "evidence.parquet")
    entries = []
    for arm in arms:
        trials = []
        for seed in seeds:
            key = f"a{arm}s{seed}"
            rows = [_row(key, arm, seed, index) for index in (0, 1, 2)]
            pq.write_table(pa.Table.from_pylist(rows), root / "rounds" / f"{key}.parquet")
            if evidence:
                pq.write_table(_evidence(arm, seed, [1, 2], floor, high), root / "evidence" / f"{key}.parquet")
            if channels:
                pq.write_table(_channels(seed), root / "channels" / f"{key}.parquet")
            trials.append({"seed": seed, "trial_id": key, "base_id": f"b{seed}", "vanilla_id": f"b{seed}"})
        entries.append(_arm(arm, trials))
    definition = {"format": 1, "name": root.name, "arms": entries, "data": {}, "test_reveals": 0}
    (root / "sweep.json").write_text(json.dumps(definition))
    return root


def _arm(arm: int, trials: list[dict[str, Any]]) -> dict[str, Any]:
    settings = dict(zip(("pr_c", "layer"), ARMS[arm], strict=True))
    stop = {"th_acc": 0.03, "th_fair": 0.0, "gap": "eodd", "enforce": False}
    config = {
        "rounds": 2,
        "select": "round:2",
        "stop": stop,
        "method": {"name": "vanilla"},
        "criterion": {"name": "snnl"},
    }
    return {"label": label(arm), "settings": settings, "config": config | settings, "trials": trials}


def _row(trial_id: str, arm: int, seed: int, index: int) -> dict[str, Any]:
    f1, eodd, fate = numbers(arm, seed, index)
    layer = ARMS[arm][1]
    return {
        **{"trial_id": trial_id, "base_id": f"b{seed}", "round": index, "seed": seed, "method": "vanilla"},
        **{"num_classes": 3, "val_n": 120, "val_f1": f1, "val_eodd": eodd, "val_fate_eodd_base": fate},
        **{"layer": 9 + layer, "layer_name": f"conv{9 + layer}", "stop_reason": "", "stopped": False},
    }


def _evidence(
    arm: int, seed: int, rounds: list[int], floor: tuple[float, float, float], high: Mapping[int, float]
) -> pa.Table:
    found = []
    for index in rounds:
        f1, eodd, _ = numbers(arm, seed, index)
        common = {
            "round": index,
            "split": "val",
            "permutations": 1000,
            "draws": 1000,
            "seed": seed,
            "n": 120,
            "units": 120,
        }
        floors = {
            "floor_mean": floor[0],
            "floor_low": floor[1],
            "floor_high": high.get(arm, floor[2]),
            "p": 0.01,
            "excess": eodd - floor[0],
        }
        found.append(common | {"metric": "f1", "observed": f1, "standard_error": F1_ERROR})
        found.append(common | {"metric": "eodd", "observed": eodd, "standard_error": EODD_ERROR} | floors)
    return pa.Table.from_pylist(found, schema=SCHEMA)


def _channels(seed: int) -> pa.Table:
    rows = []
    for index in PRUNED:
        before = {(c + seed) % CHANNELS for r, cs in PRUNED.items() for c in cs if r < index}
        now = {(c + seed) % CHANNELS for c in PRUNED[index]}
        for channel in range(CHANNELS):
            score = GONE if channel in before else SCORES[(channel - seed) % CHANNELS]
            row = {"round": index, "channel": channel, "score": score, "p": float("nan")}
            rows.append(row | {"pruned": channel in now, "kept": channel not in before | now})
    kinds = (pa.int32(), pa.int32(), pa.float32(), pa.float64(), pa.bool_(), pa.bool_())
    return pa.Table.from_pylist(rows, schema=pa.schema(zip(rows[0], kinds, strict=True)))


def by_label(axes) -> dict:
    """Handles by what the legend calls them."""
    return dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))


def texts(axes) -> set[str]:
    return {text.get_text() for text in axes.texts}
