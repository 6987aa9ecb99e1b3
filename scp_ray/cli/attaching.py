"""What ``scp-ray track`` hangs on a sweep's run in MLflow: its report, its channels, its best model."""

from __future__ import annotations

import hashlib
import io
import sys
from typing import TYPE_CHECKING, Any

from scp_ray.errors import ScpError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from scp_ray.export.source import Chosen
    from scp_ray.ledger import Sweep
    from scp_ray.places import AnyPath
    from scp_ray.tracking.artifacts import Attached, TrackedModel

MODELS = ("best", "kept", "none")


def attached_of(sweep: Sweep, models: str = "best") -> Attached:
    """DIR/report as it lies there, one table of all channels, and models (``best``, all that were ``kept``, ``none``).

    A model that cannot be logged (a method that MLflow's form cannot hold) is named on stderr and left out.
    """
    from scp_ray.tracking.artifacts import Attached

    ledger, files = sweep.ledger, dict[str, "AnyPath | bytes"]()
    for path in (*ledger.find("report/*"), *ledger.find("report/*/*")):
        if path.is_file() and not path.name.startswith("."):
            files[f"report/{str(path)[len(str(ledger.root / 'report')) + 1 :]}"] = path
    if len(sweep.channels):
        files["tables/channels.parquet"] = _parquet(sweep.channels)
    found = []
    for trial_id in _asked(sweep, models):
        try:
            found.append(tracked_model(sweep, trial_id))
        except ScpError as error:
            print(f"warning: the model of trial {trial_id} is not logged: {error}", file=sys.stderr)
    return Attached(files, tuple(found))


def best_trial(sweep: Sweep) -> str | None:
    """Of the best arm (``report.best``) the trial with the highest FATE of those whose model is kept.

    None where no arm is whole yet, or no model of the best one is kept. A FATE that is undefined counts as the worst.
    """
    from scp_ray.ledger.models import selected_rounds
    from scp_ray.report.best import arms_best_first
    from scp_ray.report.yardstick import yardstick_of

    arms = arms_best_first(sweep)
    if not arms or not arms[0].fit:
        return None
    rows, kept = selected_rounds(sweep), {*sweep.ledger.models()}
    mine = rows[(rows["arm"] == arms[0].arm) & (rows["trial_id"].isin(kept) | (rows["selected_round"] == 0))]
    fates = mine[f"val_{yardstick_of(sweep).column}"].fillna(float("-inf"))
    return None if mine.empty else str(mine["trial_id"].iloc[int(fates.argmax())])


def tracked_model(sweep: Sweep, trial_id: str) -> TrackedModel:
    """A trial's model with an example of two generated images: no patient's picture goes to a tracker."""
    from scp_ray.export.source import choose, kept_state
    from scp_ray.export.write import classifier_from
    from scp_ray.tracking.artifacts import TrackedModel

    chosen = choose(sweep, trial_id)
    state = kept_state(chosen, f"scp-ray export {sweep.ledger.root} {trial_id} --recompute")
    module = classifier_from(chosen, state)
    size = chosen.config.dataset.image_size
    return TrackedModel(
        name=f"{sweep.definition['name']}-{trial_id}",
        key=f"{trial_id}-round{chosen.round}-{_digest(state)}",
        module=module,
        example=_example(size, module.needs_group),
        classes=int(chosen.row["num_classes"]),
        params=_params(chosen),
        tags={"scp_ray.id": trial_id, "scp_ray.kind": "model"},
    )


def _asked(sweep: Sweep, models: str) -> list[str]:
    if models == "none":
        return []
    if models == "kept":
        return sweep.ledger.models()
    best = best_trial(sweep)
    if best is None and len(sweep.rounds):
        print("no arm is whole yet, or no model of the best one is kept: none is logged", file=sys.stderr)
    return [] if best is None else [best]


def _params(chosen: Chosen) -> dict[str, str]:
    row = chosen.row
    told = {"arm": chosen.arm["label"], "seed": chosen.seed, "round": chosen.round, "select": chosen.config.select}
    told |= {name: row[name] for name in ("dataset", "backbone", "method", "val_n", "val_f1", "val_eodd")}
    return {name: str(value)[:500] for name, value in told.items()}


def _example(size: int, needs_group: bool) -> dict[str, NDArray[Any]]:
    import numpy as np

    image = np.random.default_rng(0).random((2, 3, size, size), dtype=np.float32)
    return {"image": image} | ({"group": np.array([0, 1], dtype=np.int64)} if needs_group else {})


def _digest(state: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()
