"""Floor 3: a sweep's own record on disk. Everything that is ever shown to a person is read from here.

Names are loaded on first use: whoever only tells what is recorded (``scp_ray.ledger.records``) needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scp_ray.ledger.ledger import Ledger as Ledger
    from scp_ray.ledger.load import Sweep as Sweep
    from scp_ray.ledger.load import load_sweep as load_sweep
    from scp_ray.ledger.sink import Sink as Sink

_HOME = {"Ledger": "ledger", "Sink": "sink", "Sweep": "load", "load_sweep": "load"}
__all__ = ["Ledger", "Sink", "Sweep", "load_sweep"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
