"""scp_ray: which pruning makes a skin-disease classifier fairer, and is the difference real?

Public names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Batch": "parts",
    "Criterion": "criteria.base",
    "DataSet": "data.base",
    "FairnessData": "parts",
    "FairnessReport": "maths.report",
    "Learner": "parts",
    "Method": "methods.base",
    "NoiseFloor": "maths.uncertainty",
    "PrunePlan": "loop.rounds",
    "Round": "parts",
    "ScpError": "errors",
    "StopRule": "loop.stopping",
    "Sweep": "ledger.load",
    "SweepConfig": "config",
    "TrainPlan": "parts",
    "TrialConfig": "config",
    "derive_seed": "seeds",
    "fairness_report": "maths.report",
    "fate": "maths.fate",
    "load_sweep": "loading",
    "lowest_channels": "maths.channels",
    "noise_floor": "maths.uncertainty",
    "prune_for_fairness": "loop.prune",
    "prune_rounds": "loop.rounds",
    "run_trial": "trial",
    "snnl_scores": "maths.snnl",
}

__all__ = [*sorted(_HOME)]

if TYPE_CHECKING:
    from scp_ray.config import SweepConfig as SweepConfig
    from scp_ray.config import TrialConfig as TrialConfig
    from scp_ray.criteria.base import Criterion as Criterion
    from scp_ray.data.base import DataSet as DataSet
    from scp_ray.errors import ScpError as ScpError
    from scp_ray.ledger.load import Sweep as Sweep
    from scp_ray.loading import load_sweep as load_sweep
    from scp_ray.loop.prune import prune_for_fairness as prune_for_fairness
    from scp_ray.loop.rounds import PrunePlan as PrunePlan
    from scp_ray.loop.rounds import prune_rounds as prune_rounds
    from scp_ray.loop.stopping import StopRule as StopRule
    from scp_ray.maths.channels import lowest_channels as lowest_channels
    from scp_ray.maths.fate import fate as fate
    from scp_ray.maths.report import FairnessReport as FairnessReport
    from scp_ray.maths.report import fairness_report as fairness_report
    from scp_ray.maths.snnl import snnl_scores as snnl_scores
    from scp_ray.maths.uncertainty import NoiseFloor as NoiseFloor
    from scp_ray.maths.uncertainty import noise_floor as noise_floor
    from scp_ray.methods.base import Method as Method
    from scp_ray.parts import Batch as Batch
    from scp_ray.parts import FairnessData as FairnessData
    from scp_ray.parts import Learner as Learner
    from scp_ray.parts import Round as Round
    from scp_ray.parts import TrainPlan as TrainPlan
    from scp_ray.seeds import derive_seed as derive_seed
    from scp_ray.trial import run_trial as run_trial


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'scp_ray' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"scp_ray.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
